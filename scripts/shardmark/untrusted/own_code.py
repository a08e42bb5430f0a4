"""Functions of a user's own Python file, in separate processes with limits on time and memory.

The file's text is part of the data set's settings, so that the executed code is the one that the digest covers,
wherever the file has gone since. It is the user's code, which a run must allow; limits keep a mistake from taking down
the machine.
"""

import ast
import json
import os
import select
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("inside") / "own_server.py"
SECONDS = 10.0
"Seconds of computing time that a call may take."
PATIENCE = 120.0
"Seconds that a call may take by the clock, for code that waits."
MEMORY_BYTES = 4 << 30
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
"Variables that the process gets; keys are not among them."


class OwnCodeError(Exception):
    """An error in a user's file, with its line if that is known."""

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.line = line

    def place(self, file: str) -> str:
        """The file, with the line."""
        return f"{file}:{self.line}" if self.line else file


class OwnFunction:
    """A function of a file; its process starts at the first call, and again after a call that ended it."""

    def __init__(self, file: str, code: str, name: str) -> None:
        self.file, self.code, self.name = file, code, name
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """The function's result for plain values. Raises OwnCodeError."""
        process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        try:
            self._send(process, [arguments, settings])
            ready = select.select([process.stdout], [], [], PATIENCE)[0]
            line = process.stdout.readline() if ready else b""
        except BrokenPipeError:
            ready, line = [process.stdout], b""
        if not line:
            status = self.stop()
            why = f"its process ended ({status})" if ready else f"it takes longer than {PATIENCE:.0f} s"
            raise OwnCodeError(f"{self.name}: {why}")
        reply = json.loads(line)
        if "error" in reply:
            raise OwnCodeError(reply["error"], reply["line"])
        return reply["value"]

    @staticmethod
    def _send(process: "subprocess.Popen[bytes]", value: object) -> None:
        assert process.stdin
        process.stdin.write(json.dumps(value).encode() + b"\n")
        process.stdin.flush()

    def _start(self) -> "subprocess.Popen[bytes]":
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment |= {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self._process = process = subprocess.Popen(
            [sys.executable, "-s", "-P", str(SERVER), str(MEMORY_BYTES), str(SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._send(process, [self.file, self.code, self.name])
        return process

    def stop(self) -> int | None:
        """End the process; returns its exit status, if it had one."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        with process:
            pass
        return process.returncode


_known: dict[tuple[str, str, str], OwnFunction] = {}


def own_function(file: str, code: str, name: str) -> OwnFunction:
    """The function of a file; all calls share its process until `own_processes` ends it."""
    return _known.setdefault((file, code, name), OwnFunction(file, code, name))


@contextmanager
def own_processes() -> Iterator[None]:
    """A block after which processes of own functions are ended, so that a file's state does not reach other scores."""
    try:
        yield
    finally:
        while _known:
            _known.popitem()[1].stop()


def faults(code: str, name: str, arguments: int, settings: Collection[str]) -> Iterator[tuple[int, str]]:
    """The faults of a file, with their lines, as far as they show without executing it."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError) as error:
        yield getattr(error, "lineno", None) or 1, f"not valid Python: {getattr(error, 'msg', error)}"
        return
    found = [part for part in tree.body if isinstance(part, ast.FunctionDef) and part.name == name]
    if not found:
        yield 1, f"it defines no function {name}"
        return
    taken = found[-1].args
    places = [*taken.posonlyargs, *taken.args]
    least = len(places) - len(taken.defaults)
    if (len(places) < arguments and not taken.vararg) or least > arguments + len(settings):
        yield found[-1].lineno, f"{name} is called with {arguments} arguments, but takes {len(places)}"
        return
    named = {each.arg for each in [*taken.args[arguments:], *taken.kwonlyargs]}
    for unknown in sorted(set(settings) - named) if not taken.kwarg else ():
        yield found[-1].lineno, f"{name} has no argument {unknown!r}, which its settings name"
    needed = {each.arg for each in places[arguments:least]}
    needed |= {each.arg for each, value in zip(taken.kwonlyargs, taken.kw_defaults, strict=True) if value is None}
    for missing in sorted(needed - set(settings)):
        yield found[-1].lineno, f"{name} needs {missing!r}, which its settings do not name"
