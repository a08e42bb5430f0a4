"""math-verify in a process of its own: what a model writes, such as 9^9^9^9, may take all time and memory there is.

Run as a command, this file is that process: it reads pairs of texts and writes whether they mean the same, in JSON.
"""

import json
import os
import resource
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

SECONDS = 30.0
"So long a pair may take; math-verify itself gives up after 5 s where it can."
MEMORY_BYTES = 4 << 30
LONGEST = 20_000
"Characters of an answer that are read; its end counts."
DELIMITERS = ("$", r"\boxed", r"\(", r"\[", r"\begin")


class MathProcess:
    """Compares texts; started when it is first asked, and again after a pair that it did not survive."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def equal(self, answer: str, reference: str) -> bool:
        """Whether both mean the same; no if it cannot be told within the limits."""
        process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps([answer[-LONGEST:], reference]).encode() + b"\n")
            process.stdin.flush()
            if select.select([process.stdout], [], [], SECONDS)[0] and (line := process.stdout.readline()):
                return json.loads(line) is True
        except BrokenPipeError:
            pass
        self._stop()
        return False

    def _start(self) -> "subprocess.Popen[bytes]":
        paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(paths)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            with process:
                pass


def same(answer: str, reference: str) -> bool:
    """Whether both mean the same number or formula. LaTeX may stand without $."""
    from math_verify import parse, verify

    return bool(verify(parse(_delimited(reference, True)), parse(_delimited(answer, False))))


def _delimited(text: str, formula: bool) -> str:
    """The text as a formula, if it is one (or has a command of LaTeX in it) that nothing marks as such."""
    marked = any(mark in text for mark in DELIMITERS)
    return f"${text.strip()}$" if not marked and (formula or "\\" in text) else text


def _serve() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            found = same(*json.loads(line))
        except Exception:  # sympy raises anything on odd input; what cannot be compared is not equal
            found = False
        print(json.dumps(found), file=out, flush=True)


if __name__ == "__main__":
    _serve()
