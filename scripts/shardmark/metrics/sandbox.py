"""Run generated programs against tests, each in a sandbox that bubblewrap makes.

Two processes in two sandboxes: one runs the program, the other the tests, which call the program's functions through a
socket and get plain data back (inside/tester.py). No sandbox has a network, a home, keys in its environment or files
but Python and the system's libraries, which are read-only; each has its own processes, limits on time, memory,
processes, files and their size, and system calls that it may not make (seccomp.py).
"""

import functools
import itertools
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shardmark.errors import Problem, UserError
from shardmark.metrics.seccomp import call_filter, known

INSIDE = Path(__file__).parent / "inside"
FIRST_USER = 2_000_000_000
"""Root would have no limit on processes, and other rights, so what it starts becomes a user of no other process."""
SCRATCH_BYTES = 16 << 20
AT_ONCE = 4
PATIENCE = (3, 20)
"A program that waits, or gets little of a busy machine, may take so many times its seconds, and so many more."
BOOT = """
import sys, types
package = "shardmark.metrics.inside"
for depth in range(1, 4):
    name = ".".join(package.split(".")[:depth])
    sys.modules[name] = types.ModuleType(name)
wire = types.ModuleType(package + ".wire")
sys.modules[package].wire = sys.modules[wire.__name__] = wire
exec(compile(sys.argv[1], "wire", "exec"), vars(wire))
part = types.ModuleType("part")
exec(compile(sys.argv[2], "part", "exec"), vars(part))
part.main(*sys.argv[3:])
"""


@dataclass(frozen=True)
class Limits:
    """What a program may take."""

    seconds: float = 10.0
    "Of computing time."
    memory_mb: int = 1024


@dataclass(frozen=True)
class Verdict:
    """Whether a program passes its tests."""

    passed: bool
    why: str
    "Why not."


def run_programs(jobs: Iterable[tuple[str, str]], limits: Limits) -> list[Verdict]:
    """The verdicts on programs with their tests. Raises UserError where there is no sandbox."""
    require_sandbox()
    jobs = list(jobs)
    distinct = list(dict.fromkeys(jobs))
    with ThreadPoolExecutor(min(AT_ONCE, len(os.sched_getaffinity(0)))) as pool:
        verdicts = list(pool.map(lambda job: run_program(job[0], job[1], limits), distinct))
    known = dict(zip(distinct, verdicts, strict=True))
    return [known[job] for job in jobs]


def run_program(program: str, tests: str, limits: Limits) -> Verdict:
    """The verdict on a program. Nothing that it does can raise here."""
    ours, theirs = socket.socketpair()
    seconds = PATIENCE[0] * limits.seconds + PATIENCE[1]
    with theirs, ours, _started("program", theirs, limits), _started("tester", ours, limits) as tester:
        theirs.close()
        ours.close()
        job = json.dumps({"program": program, "tests": tests}).encode()
        try:
            out, errors = tester.communicate(job, timeout=seconds)
        except subprocess.TimeoutExpired:
            return Verdict(False, f"no verdict after {seconds:g} s")
    try:
        found = json.loads(out)
    except ValueError:
        return Verdict(False, f"the tests ended without a verdict: {errors.decode(errors='replace')[-300:].strip()}")
    return Verdict(found["passed"] is True, found["why"])


@functools.cache
def require_sandbox() -> None:
    """Raises UserError, with the fix, if this machine makes no sandbox."""
    if shutil.which("bwrap") is None:
        fix = "apt-get install bubblewrap (or your system's package of that name), on every machine that scores"
        raise UserError(Problem("pass_at_k", "", "generated code runs in a sandbox only, and there is no bwrap", fix))
    if not known():
        what = f"the sandbox refuses system calls by their numbers, which it does not know for {platform.machine()}"
        raise UserError(Problem("pass_at_k", "", what, "score on x86_64 or aarch64, or add them to metrics/seccomp.py"))
    verdict = run_program("def one():\n    return 1\n", "assert one() == 1", Limits())
    if not verdict.passed:
        python = _python()
        fix = f"make `bwrap --unshare-all --ro-bind / / true` work, and {python} readable by all users"
        raise UserError(Problem("pass_at_k", "", f"bwrap makes no sandbox on this machine: {verdict.why}", fix))


@contextmanager
def _started(part: str, channel: socket.socket, limits: Limits) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in a sandbox of its own, killed with all that it started at the end of the block."""
    pipe = subprocess.PIPE if part == "tester" else subprocess.DEVNULL
    wire, source = ((INSIDE / f"{name}.py").read_text("utf-8") for name in ("wire", part))
    user = _unused_user() if os.geteuid() == 0 else 0
    arguments = map(str, (channel.fileno(), limits.seconds, limits.memory_mb, user))
    with _readable(call_filter()) as calls:
        sandbox = [*_sandbox(), "--seccomp", str(calls)]
        process = subprocess.Popen(
            [*sandbox, _python(), "-s", "-S", "-P", "-B", "-c", BOOT, wire, source, *arguments],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            pass_fds=[channel.fileno(), calls],
            env={"HOME": "/home", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"},
            cwd="/",
        )
    try:
        with process:
            yield process
            process.kill()
    finally:
        process.kill()


@contextmanager
def _readable(content: bytes) -> Iterator[int]:
    """A file descriptor from which a few bytes can be read."""
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "wb") as file:
            file.write(content)
        yield reader
    finally:
        os.close(reader)


def _python() -> str:
    """The interpreter itself, without the virtual environment around it."""
    return os.path.realpath(sys.executable)


_started_here = itertools.count()


def _unused_user() -> int:
    """A user id for one sandbox: of this process, and so of this machine."""
    return FIRST_USER + os.getpid() % 1_000_000 * 100 + next(_started_here) % 100


@functools.cache
def _sandbox() -> tuple[str, ...]:
    """The command that makes a sandbox. Root needs no user namespace, and must not be root inside one.

    bwrap's own process in a sandbox has neither limits nor a filter, and the program could write into its memory where
    both are of one user: there it makes none.
    """
    command = [str(shutil.which("bwrap")), "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if os.geteuid() == 0:
        command += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-all", "--unshare-user", "--disable-userns", "--as-pid-1"]
    command += ["--ro-bind", "/usr", "/usr"]
    for folder in map(Path, ("/bin", "/sbin", "/lib", "/lib32", "/lib64")):
        if folder.is_symlink():
            command += ["--symlink", os.readlink(folder), str(folder)]
        elif folder.is_dir():
            command += ["--ro-bind", str(folder), str(folder)]
    for prefix in {sys.base_prefix, str(Path(_python()).parent.parent)}:
        if not Path(prefix).is_relative_to("/usr"):
            parents = reversed(Path(prefix).parents[:-1])
            command += [part for folder in parents for part in ("--dir", str(folder))]  # else only root may enter
            command += ["--ro-bind", prefix, prefix]
    command += ["--proc", "/proc", "--dev-bind", "/dev/null", "/dev/null", "--dir", "/home"]
    command += ["--perms", "1777", "--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp"]
    return (*command, "--remount-ro", "/", "--chdir", "/tmp")
