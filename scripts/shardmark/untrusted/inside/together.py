"""Program and tests in one process, by an interpreter that has their packages.

So the tests can compare data frames and plots, and patch what the program imports, as those of BigCodeBench do. Nothing
then keeps a program from deceiving them.
"""

import contextlib
import io
import json
import os
import sys
import types
import unittest
from typing import Any

from shardmark.untrusted.inside import wire

SHOWN = 500
"The most characters of a reason."


def run_tests(source: str) -> str:
    """Run the TestCases in a source as BigCodeBench does; the reason if it fails. Raises what it raises itself."""
    module = types.ModuleType("__test__")
    vars(module).update(__file__="__test__.py", __package__=None, sys=sys, os=os, environ=os.environ)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(source, "__test__.py", "exec"), vars(module))
        sys.modules[module.__name__] = module
        result = unittest.TestResult()
        unittest.TestLoader().loadTestsFromTestCase(module.TestCases).run(result)
    wrong = [f"{test.id().rpartition('.')[2]}: {trace.strip()}" for test, trace in result.failures + result.errors]
    return "" if result.testsRun and not wrong else wrong[0][-SHOWN:] if wrong else "there are no tests"


def verdict(program: str, tests: str) -> dict[str, Any]:
    """Whether the program passes, and the reason if not."""
    try:
        why = run_tests(f"{program}\n{tests}")
    except BaseException as error:
        why = f"{type(error).__name__}: {error}"[:SHOWN]
    return {"passed": not why, "why": why}


def main(channel_fd: str, control_fd: str, *limits: str) -> None:
    wire.PROCESSES = 64  # threads count, and TensorFlow starts more than 16
    control = wire.begin(control_fd, *limits)
    job = json.loads(control.makefile("rb").readline())
    control.sendall(json.dumps(verdict(job["program"], job["tests"])).encode() + b"\n")
