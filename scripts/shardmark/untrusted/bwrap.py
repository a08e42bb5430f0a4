"""Start a process of ours in a sandbox made by bubblewrap."""

import fcntl
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from shardmark.errors import Problem, UserError
from shardmark.untrusted.inside.wire import READY
from shardmark.untrusted.process_tree import ProcessTree
from shardmark.untrusted.seccomp import call_filter

INSIDE = Path(__file__).parent / "inside"
FIRST_USER = 2_000_000_000
"""Root would have no limit on processes, and other rights, so its processes run as a user that no other process has."""
SCRATCH_BYTES = 16 << 20
SCRATCH_FILES = 4096
DEVICES = ("null", "zero", "full", "random", "urandom")
START_SECONDS = 60.0
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


class NotStarted(Exception):
    """A sandbox did not start; says why."""


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
def started(name: str, channel: socket.socket, limits: Limits) -> Iterator[Part]:
    """One side in a sandbox, killed at the end of the block with everything that it started."""
    wire, source = ((INSIDE / f"{file}.py").read_text("utf-8") for file in ("wire", name))
    user = _unused_user() if os.geteuid() == 0 else 0
    ours, theirs = socket_pair()
    arguments = map(str, (channel.fileno(), theirs.fileno(), limits.seconds, limits.memory_mb, user))
    with ExitStack() as stack:
        stack.callback(ours.close)
        with theirs, _readable(call_filter()) as calls:
            sandbox = [*_sandbox(limits.python), "--seccomp", str(calls)]
            # BigCodeBench's packages want Python 3.10, which has no -P and does not read PYTHONSAFEPATH.
            python = [os.path.abspath(limits.python)] if limits.python else [own_python(), "-S", "-P"]
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


def socket_pair() -> tuple[socket.socket, socket.socket]:
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


def own_python() -> str:
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
    for prefix in prefixes(python) if python else {sys.base_prefix, str(Path(own_python()).parent.parent)}:
        if not Path(prefix).is_relative_to("/usr"):
            parents = reversed(Path(prefix).parents[:-1])
            command += [part for folder in parents for part in ("--dir", str(folder))]  # else only root may enter
            command += ["--ro-bind", prefix, prefix]
    return (*command, "--remount-ro", "/", "--chdir", "/tmp")
