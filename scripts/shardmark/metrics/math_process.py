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
FORMULA = 80
"Characters of the longest answer that is tried as a formula."
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
    """Whether both mean the same number or formula. LaTeX may stand without $.

    An answer that nothing marks as LaTeX is prose with a number in it, or, if it is short, a formula such as `(1, 2)`.
    """
    from math_verify import parse, verify

    if answer.strip() == reference.strip():
        return True
    right = parse(_as_formula(reference))
    plain = not _is_marked(answer)
    if not (plain and "\\" in answer) and verify(right, parse(answer)):
        return True
    short = len(answer.strip()) <= FORMULA and "\n" not in answer.strip()
    return plain and ("\\" in answer or short) and bool(verify(right, parse(_as_formula(answer))))


def _as_formula(text: str) -> str:
    return text if _is_marked(text) else f"${text.strip()}$"


def _is_marked(text: str) -> bool:
    return any(mark in text for mark in DELIMITERS)


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
