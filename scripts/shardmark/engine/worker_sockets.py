"""Where clients and warm workers meet: a private folder for each run, with a socket and a lock for each worker.

The run's folder is named by the process that the run is: its Snakemake. A worker's lock is held by the client it works
for, so that a free lock means an idle worker, and the kernel drops it when the client dies. Only this user can open
the folder, and both sides check that the other is of this user.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shardmark.errors import Problem, UserError

SOCKET, LOCK = ".sock", ".lock"
GONE = "0"
LONGEST = 36
"Characters of a folder for runs: the path of a socket in it, up to 71 more, must fit into 107."
LEAVE = b'{"leave": true}\n'
LONGEST_LINE = 16 << 20
"Bytes of what one side tells the other, a line of JSON."
LEAVE_SECONDS = 5.0
"Seconds that a worker may take to be connected to, or to leave."


def run_folder(owner: int) -> Path:
    """The folder of the run that a process is; made if need be, and those of runs that are over removed."""
    start = started(owner)
    if start == GONE:
        raise UserError(Problem("--owner", "", f"process {owner} has ended", "name the process that the run is"))
    base = _base() / f"shardmark-{os.getuid()}"
    folder = base / f"{owner}-{start}"
    for path in (base, folder):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise UserError(
                Problem(str(path), "", "is open to others", "remove it, or set TMPDIR to a folder of yours")
            )
    for other in base.iterdir():
        pid, _, start = other.name.partition("-")
        if pid.isdigit() and started(int(pid)) != start:
            kill_workers(other)
            shutil.rmtree(other, ignore_errors=True)
    return folder


def kill_workers(folder: Path) -> None:
    """Kill the workers of a run that is over and still have a socket in its folder: they are stopped."""
    for path in folder.glob(f"*{SOCKET}"):
        with suppress(OSError), connect(path) as connection:
            os.kill(check_peer(connection), signal.SIGKILL)


def _base() -> Path:
    """The first folder for temporary files that is there and has a short name."""
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir()):
        if 0 < len(base) <= LONGEST and os.access(base, os.W_OK):
            return Path(base)
    return Path("/tmp")


def started(pid: int) -> str:
    """When a process began, in the kernel's ticks: with the number, it names the process for ever; GONE if it ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return GONE
    return GONE if state in "ZX" else fields[18]


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether the worker with this socket was idle; it is this process's until the block ends."""
    try:
        handle = os.open(path.with_suffix(LOCK), os.O_RDONLY)  # not made if absent: who starts the worker makes it
    except FileNotFoundError:
        yield False
        return
    with os.fdopen(handle) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def connect(path: Path) -> socket.socket:
    """A connection to a worker. Raises OSError if there is none."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(LEAVE_SECONDS)  # where too many wait already, it fails at once
        connection.connect(str(path))
        connection.settimeout(None)
        check_peer(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def check_peer(connection: socket.socket) -> int:
    """The process at the other end. Raises PermissionError if it is another user's."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    if uid != os.getuid():
        raise PermissionError(f"a process of user {uid} is at the other end")
    return int(pid)


def read_message(line: bytes) -> dict[str, Any]:
    """What a client and a worker tell each other, a JSON object. Raises ValueError for anything else."""
    try:
        message = json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(message, dict):
        raise ValueError("it is no JSON object")
    return message


def forget(path: Path) -> None:
    """Remove what clients find a worker by; not the run's folder, which a client may be about to use."""
    path.unlink(missing_ok=True)
    path.with_suffix(LOCK).unlink(missing_ok=True)


def ask_to_leave(path: Path) -> bool:
    """Ask a worker to leave if it is idle; whether it has.

    It is claimed until then, so that no client comes to a worker that is about to leave.
    """
    with claimed(path) as idle, suppress(OSError):
        if idle:
            with connect(path) as connection:
                connection.settimeout(LEAVE_SECONDS)  # it may be at work for a client that has died
                connection.sendall(LEAVE)
                return not connection.recv(1)
    return False
