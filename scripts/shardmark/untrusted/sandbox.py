"""Run generated programs against tests, each in a sandbox made by bubblewrap.

Two processes in two sandboxes (bwrap.py): one runs the program, the other the tests, which call the program's functions
through a socket and get plain data back (inside/tester.py). No sandbox has a network, a home, keys in its environment,
or files other than Python and the system's libraries, which are read-only; each has its own processes, limits on time,
memory, processes, files and their size, and system calls that it may not make (seccomp.py).

Before anything foreign runs, both sides report over a socket of their own that they have started and have everything
that the limits promise. If one does not, nothing is known of the program: it is tried again, and then reported as an
error.
"""

import functools
import json
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from shardmark.errors import Problem, UserError
from shardmark.untrusted.bwrap import (
    SCRATCH_FILES,
    Limits,
    NotStarted,
    Part,
    own_python,
    prefixes,
    socket_pair,
    started,
)
from shardmark.untrusted.seccomp import known

AT_ONCE = 4
TRIES = 12
"How many times to try to start a sandbox."
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"Seconds between tries; each pause is twice the one before."
OUT_OF_MEMORY_TRIES = 3
"How many times to try a program that fails while the machine runs out of memory."
POLL_SECONDS = 0.1
PATIENCE = (3, 20)
"The time for a program that waits: its seconds times the first, plus the second; waiting for a CPU does not count,"
PATIENCE_WITH_MACHINE = 10
"unless it takes this many times as long."
OVERHEAD_SECONDS = 2.0
"Computing time that the sandbox and the interpreter take themselves."
TREE_MEMORY = 4
"The memory of all of a program's processes together, in multiples of one's limit; shared memory counts for each."
VERDICT_BYTES = 1 << 16


@dataclass(frozen=True)
class Verdict:
    """Whether a program passes its tests."""

    passed: bool
    why: str
    "The reason if it does not."


def run_programs(jobs: Iterable[tuple[str, str]], limits: Limits) -> list[Verdict]:
    """The verdicts on programs with their tests. Raises UserError if there is no sandbox, or none can be started."""
    require_sandbox()
    jobs = list(jobs)
    distinct = list(dict.fromkeys(jobs))
    with ThreadPoolExecutor(min(AT_ONCE, len(os.sched_getaffinity(0)))) as pool:
        try:
            verdicts = list(pool.map(lambda job: run_program(job[0], job[1], limits), distinct))
        except RuntimeError as error:  # no thread can be started
            raise _unstartable(str(error)) from error
        finally:
            pool.shutdown(cancel_futures=True)
    known = dict(zip(distinct, verdicts, strict=True))
    return [known[job] for job in jobs]


def run_program(program: str, tests: str, limits: Limits) -> Verdict:
    """The verdict on a program. Nothing that it does can raise here; raises UserError if no sandbox can be started."""
    pause, why, full = FIRST_PAUSE, "", 0
    for _ in range(TRIES):
        kills = _out_of_memory_kills()
        try:
            verdict = _tried(program, tests, limits)
        except (NotStarted, OSError) as error:
            why = str(error)
        else:
            full += _out_of_memory_kills() > kills
            if verdict.passed or not full or full == OUT_OF_MEMORY_TRIES or _out_of_memory_kills() == kills:
                return verdict
            why = "the machine ran out of memory"
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    raise _unstartable(why)


def _unstartable(why: str) -> UserError:
    what = f"the sandbox for generated code did not start in {TRIES} tries: {why}"
    fix = "raise the limits of processes, files or memory (ulimit -a), or run fewer jobs at once"
    return UserError(Problem("sandbox", "", what, fix))


def _tried(program: str, tests: str, limits: Limits) -> Verdict:
    """The verdict on a program. Raises NotStarted, or OSError for resources that this process cannot have."""
    ours, theirs = socket_pair()
    with theirs, ours, ExitStack() as stack:
        sides = [("together", ours)] if limits.python else [("program", theirs), ("tester", ours)]
        parts = [stack.enter_context(started(*part, limits)) for part in sides]
        theirs.close()
        ours.close()
        for part in parts:
            part.wait_until_ready()
        tester = parts[-1].control
        try:
            tester.sendall(json.dumps({"program": program, "tests": tests}).encode() + b"\n")
        except OSError as error:
            raise NotStarted(f"the tests' process ended before it had any: {error}") from error
        return _verdict(tester, parts, limits)


def _verdict(tester: socket.socket, parts: list[Part], limits: Limits) -> Verdict:
    """Wait for the tester's report, as long as both sides keep to the limits."""
    patience = PATIENCE[0] * limits.seconds + PATIENCE[1]
    began, told = time.monotonic(), b""
    tester.settimeout(POLL_SECONDS)
    while not told.endswith(b"\n"):
        try:
            received = tester.recv(VERDICT_BYTES)
        except TimeoutError:
            received = None
        except OSError:
            received = b""
        told += received or b""
        waiting = 0.0
        for part in parts:
            usage = part.tree.usage()
            waiting += usage.waiting
            if usage.seconds > limits.seconds + OVERHEAD_SECONDS:
                return Verdict(False, f"its processes took more than {limits.seconds:g} s of computing time together")
            if usage.memory > TREE_MEMORY * limits.memory_mb << 20:
                return Verdict(False, f"its processes took more than {TREE_MEMORY * limits.memory_mb} MB together")
            if part.files() > SCRATCH_FILES:
                return Verdict(False, f"it made more than {SCRATCH_FILES} files")
        if received == b"":
            return Verdict(False, "the tests ended without a verdict")
        if len(told) > VERDICT_BYTES:
            return Verdict(False, "the tests told more than a verdict")
        if time.monotonic() - began > patience + min(waiting, patience * PATIENCE_WITH_MACHINE):
            return Verdict(False, f"no verdict after {patience:g} s")
    return read_verdict(told)


def read_verdict(told: bytes) -> Verdict:
    """The verdict in a tester's report, which may be anything: a data set's tests run in the tester's process.

    An unreadable report is not a pass.
    """
    with suppress(ValueError, RecursionError):
        match json.loads(told):
            case {"passed": bool() as passed, "why": str() as why}:
                return Verdict(passed, why)
    return Verdict(False, "the tests gave no verdict that can be read")


def _out_of_memory_kills() -> int:
    """How many processes this machine has killed for lack of memory."""
    with suppress(OSError, StopIteration), open("/proc/vmstat", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("oom_kill ")).split()[1])
    return 0


@functools.cache
def require_sandbox() -> None:
    """Raise UserError, with the fix, if this machine cannot make a sandbox."""
    if shutil.which("bwrap") is None:
        fix = "apt-get install bubblewrap (or your system's package of that name), on every machine that scores"
        raise UserError(Problem("sandbox", "", "generated code runs only in a sandbox, but there is no bwrap", fix))
    if not known():
        what = f"the sandbox filters system calls by number, and does not know the numbers for {platform.machine()}"
        raise UserError(Problem("sandbox", "", what, "score on x86_64 or aarch64, or add them to untrusted/seccomp.py"))
    fix = f"make `bwrap --unshare-all --ro-bind / / true` work, and {own_python()} readable by all users"
    try:
        verdict = run_program("def one():\n    return 1\n", "assert one() == 1", Limits())
    except UserError as error:
        (problem,) = error.problems
        raise UserError(Problem(problem.where, "", problem.what, f"{fix}; {problem.fix}")) from error
    if not verdict.passed:
        raise UserError(Problem("sandbox", "", f"bwrap makes no sandbox on this machine: {verdict.why}", fix))


def absent_modules(python: str, names: Iterable[str], inside: bool) -> list[str]:
    """Which modules an interpreter does not have; `inside` a sandbox, where only its own folders are."""
    known = _known_modules(python, inside)
    if unknown := sorted(set(names) - known.keys()):
        find = f"import importlib.util\nabsent = [n for n in {unknown} if importlib.util.find_spec(n) is None]\n"
        absent = (_told_inside if inside else _told)(python, find)
        known |= {name: name not in absent for name in unknown}
    return [name for name in names if not known[name]]


@functools.cache
def _known_modules(python: str, inside: bool) -> dict[str, bool]:
    """For each module that was asked for, whether an interpreter has it."""
    prefixes(python)
    return {}


def _told(python: str, find: str) -> list[str]:
    command = [python, "-I", "-c", f"{find}print(*absent)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def _told_inside(python: str, find: str) -> list[str]:
    require_sandbox()
    why = run_program("", f"{find}raise LookupError(' '.join(absent))", Limits(memory_mb=4096, python=python)).why
    if not why.startswith("LookupError:"):
        raise UserError(Problem("metric pass_at_k", "python", f"{python} does not run in the sandbox: {why}"))
    return why.removeprefix("LookupError:").split()
