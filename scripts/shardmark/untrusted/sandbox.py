"""Run generated programs against tests, each in a sandbox made by bubblewrap.

Two processes in two sandboxes: one runs the program, the other the tests, which call the program's functions through a
socket and get plain data back (inside/tester.py). No sandbox has a network, a home, keys in its environment, or files
other than Python and the system's libraries, which are read-only; each has its own processes, limits on time, memory,
processes, files and their size, and system calls that it may not make (seccomp.py).

Before anything foreign runs, both sides report over a socket of their own that they have started and have everything
that the limits promise. If one does not, nothing is known of the program: it is tried again, and then reported as an
error.
"""

import fcntl
import functools
import itertools
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from shardmark.errors import Problem, UserError
from shardmark.untrusted.inside.wire import READY
from shardmark.untrusted.process_tree import ProcessTree
from shardmark.untrusted.seccomp import call_filter, known

INSIDE = Path(__file__).parent / "inside"
FIRST_USER = 2_000_000_000
"""Root would have no limit on processes, and other rights, so its processes run as a user that no other process has."""
SCRATCH_BYTES = 16 << 20
SCRATCH_FILES = 4096
DEVICES = ("null", "zero", "full", "random", "urandom")
AT_ONCE = 4
TRIES = 12
"How many times to try to start a sandbox."
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"Seconds between tries; each pause is twice the one before."
START_SECONDS = 60.0
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
ENVIRONMENT = {"HOME": "/home", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"}
PACKAGES_ENVIRONMENT = {"HOME": "/tmp", "MPLBACKEND": "Agg", "TZ": "UTC"} | dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONSAFEPATH"), "1"
)
"""The same for an interpreter with packages, which may have caches at home: no screen, and no more threads than a
sandbox may have."""
BOOT = """
import sys, types
package = "shardmark.untrusted.inside"
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
    """The resources that a program may use."""

    seconds: float = 10.0
    "Computing time."
    memory_mb: int = 1024
    python: str = ""
    "An interpreter, with its packages, that runs program and tests in one process; without it, ours runs each in one."


@dataclass(frozen=True)
class Verdict:
    """Whether a program passes its tests."""

    passed: bool
    why: str
    "The reason if it does not."


class NotStarted(Exception):
    """A sandbox did not start; says why."""


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
    ours, theirs = _socket_pair()
    with theirs, ours, ExitStack() as stack:
        sides = [("together", ours)] if limits.python else [("program", theirs), ("tester", ours)]
        parts = [stack.enter_context(_started(*part, limits)) for part in sides]
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


def _verdict(tester: socket.socket, parts: list["Part"], limits: Limits) -> Verdict:
    """Wait for the tester's report, as long as both sides keep to the limits."""
    patience = PATIENCE[0] * limits.seconds + PATIENCE[1]
    started, told = time.monotonic(), b""
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
        if time.monotonic() - started > patience + min(waiting, patience * PATIENCE_WITH_MACHINE):
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
    fix = f"make `bwrap --unshare-all --ro-bind / / true` work, and {_python()} readable by all users"
    try:
        verdict = run_program("def one():\n    return 1\n", "assert one() == 1", Limits())
    except UserError as error:
        (problem,) = error.problems
        raise UserError(Problem(problem.where, "", problem.what, f"{fix}; {problem.fix}")) from error
    if not verdict.passed:
        raise UserError(Problem("sandbox", "", f"bwrap makes no sandbox on this machine: {verdict.why}", fix))


class Part:
    """A process in a sandbox of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
        self.process, self.control = process, control
        self.tree = ProcessTree(process.pid)
        self._scratch: int | None = None

    def wait_until_ready(self) -> None:
        """Raise NotStarted if it does not report that it has started."""
        self.control.settimeout(START_SECONDS)
        try:
            told, handles, _, _ = socket.recv_fds(self.control, len(READY), 1)
        except TimeoutError as error:
            raise NotStarted(f"it did not respond in {START_SECONDS:g} s") from error
        except OSError:
            told, handles = b"", []
        self._scratch = handles[0] if handles else None
        if told != READY or self._scratch is None:
            raise NotStarted(self._last_words())

    def _last_words(self) -> str:
        self.end()
        assert self.process.stderr
        os.set_blocking(self.process.stderr.fileno(), False)
        lines = (self.process.stderr.read() or b"").decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"bwrap ended with status {self.process.returncode}"

    def files(self) -> int:
        """How many files its scratch folder has."""
        assert self._scratch is not None
        status = os.fstatvfs(self._scratch)
        return status.f_files - status.f_ffree

    def end(self) -> None:
        """End it, with everything that it started.

        bwrap's inner process ends with the outer one only from a moment after its start on; until then it would wait
        for it forever. Up to that moment, both are in one process group.
        """
        if self.process.returncode is None:  # not waited for, so that the number is still this group's
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """End it, and close its files."""
        self.end()
        self.control.close()
        if self.process.stderr:
            self.process.stderr.close()
        if self._scratch is not None:
            os.close(self._scratch)


@contextmanager
def _started(name: str, channel: socket.socket, limits: Limits) -> Iterator[Part]:
    """One side in a sandbox, killed at the end of the block with everything that it started."""
    wire, source = ((INSIDE / f"{file}.py").read_text("utf-8") for file in ("wire", name))
    user = _unused_user() if os.geteuid() == 0 else 0
    ours, theirs = _socket_pair()
    arguments = map(str, (channel.fileno(), theirs.fileno(), limits.seconds, limits.memory_mb, user))
    with ExitStack() as stack:
        stack.callback(ours.close)
        with theirs, _readable(call_filter()) as calls:
            sandbox = [*_sandbox(limits.python), "--seccomp", str(calls)]
            # BigCodeBench's packages want Python 3.10, which has no -P and does not read PYTHONSAFEPATH.
            python = [os.path.abspath(limits.python)] if limits.python else [_python(), "-S", "-P"]
            process = subprocess.Popen(
                [*sandbox, *python, "-s", "-B", "-c", BOOT, wire, source, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,  # until it is ready; then nothing writes there any more
                pass_fds=[channel.fileno(), theirs.fileno(), calls],
                env=ENVIRONMENT | (PACKAGES_ENVIRONMENT if limits.python else {}),
                cwd="/",
                process_group=0,
            )
        part = Part(process, ours)
        stack.callback(part.close)
        yield part


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a channel that can be passed on: above the standard streams, which a process may have closed."""
    first, second = socket.socketpair()
    with first, second:
        above = [_above_streams(end.fileno()) for end in (first, second)]
    return socket.socket(fileno=above[0]), socket.socket(fileno=above[1])


def _above_streams(handle: int) -> int:
    return fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, 3)


@contextmanager
def _readable(content: bytes) -> Iterator[int]:
    """A file descriptor from which a few bytes can be read."""
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "wb") as file:
            file.write(content)
        above = _above_streams(reader)
    finally:
        os.close(reader)
    try:
        yield above
    finally:
        os.close(above)


def _python() -> str:
    """The interpreter itself, without the virtual environment around it."""
    return os.path.realpath(sys.executable)


_started_here = itertools.count()


def _unused_user() -> int:
    """A user id for one sandbox, unique to this process and thus on this machine."""
    return FIRST_USER + os.getpid() % 1_000_000 * 100 + next(_started_here) % 100


@functools.cache
def prefixes(python: str) -> tuple[str, ...]:
    """Where an interpreter and its packages are. Raises UserError if it does not run."""
    command = [python, "-I", "-c", "import sys; print(sys.prefix, sys.base_prefix, sep='\\n')"]
    try:
        return tuple(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())
    except (OSError, subprocess.CalledProcessError) as error:
        fix = f"python3 -m venv {Path(python).parent.parent}, and install what the tests import; or name another"
        raise UserError(Problem("metric pass_at_k", "python", f"{python} is not a Python that runs", fix)) from error


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


@functools.cache
def _sandbox(python: str = "") -> tuple[str, ...]:
    """The command that makes a sandbox. Root needs no user namespace, and must not be root inside one.

    bwrap's own process in a sandbox has neither limits nor a filter, and the program could write into its memory if
    both belonged to one user; so as root, it makes no such process.
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
    command += ["--proc", "/proc", "--dir", "/home", "--dir", "/dev"]  # without --dir, only root may enter
    command += [part for name in DEVICES for part in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")]
    for scratch in ("/tmp", "/dev/shm") if python else ("/tmp",):  # processes share semaphores in the second
        command += ["--perms", "1777", "--size", str(SCRATCH_BYTES), "--tmpfs", scratch]
    # After /tmp, which may hold them.
    for prefix in prefixes(python) if python else {sys.base_prefix, str(Path(_python()).parent.parent)}:
        if not Path(prefix).is_relative_to("/usr"):
            parents = reversed(Path(prefix).parents[:-1])
            command += [part for folder in parents for part in ("--dir", str(folder))]  # else only root may enter
            command += ["--ro-bind", prefix, prefix]
    return (*command, "--remount-ro", "/", "--chdir", "/tmp")
