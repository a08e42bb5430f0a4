"""Meeting places of clients and warm workers: a private folder for each run, with a socket and a lock for each worker.

The run's folder is named after its Snakemake process. A worker's lock is held by the client it works for, so a free
lock means an idle worker, and the kernel drops the lock when the client dies. Only this user can open the folder, and
both sides check that the other belongs to this user.
"""

import fcntl
import json
import logging
import os
import signal
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shardmark.errors import Problem, UserError
from shardmark.files import digest
from shardmark.processes.places import GONE, private_place, started

SOCKET, LOCK = ".sock", ".lock"
JOBS = "jobs.lock"
LEAVE = b'{"leave": true}\n'
LONGEST_LINE = 16 << 20
"The most bytes of a message between the two sides: one line of JSON."
LEAVE_SECONDS = 5.0
"The most seconds that a worker may take to accept a connection, or to leave."
log = logging.getLogger(__name__)


def run_folder(owner: int) -> Path:
    """The folder of the run whose process is `owner`, created if necessary; the folders of ended runs are removed."""
    start = started(owner)
    if start == GONE:
        raise UserError(Problem("--owner", "", f"process {owner} has ended", "name the run's own process"))
    base = private_folder()
    folder = base / f"{owner}-{start}"
    _make_private(folder)
    for other in base.iterdir():
        pid, _, start = other.name.partition("-")
        if pid.isdigit() and started(int(pid)) != start:
            import shutil  # here: a client seldom finds one, and the import takes 2 ms

            kill_workers(other)
            shutil.rmtree(other, ignore_errors=True)
    return folder


def private_folder() -> Path:
    """This user's folder for sockets, created if necessary."""
    return _own_folder(private_place())


def shared_folder() -> Path:
    """The folder that all runs of this user share, even if each has its own folder for temporary files."""
    with suppress(UserError, OSError):
        return _own_folder(private_place("/tmp"))
    return private_folder()


def _own_folder(place: str) -> Path:
    folder = Path(place)
    _make_private(folder)
    return folder


def _make_private(path: Path) -> None:
    """Create a folder that only this user can open, if it does not exist. Raises UserError if it is open to others."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UserError(Problem(str(path), "", "is open to others", "remove it, or set TMPDIR to your own folder"))


def kill_workers(folder: Path) -> None:
    """Kill the workers of an ended run that still have a socket in its folder: they must have been stopped."""
    for path in folder.glob(f"*{SOCKET}"):
        with suppress(OSError), connect(path) as connection:
            os.kill(check_peer(connection), signal.SIGKILL)


@contextmanager
def sole_job(out: Path) -> Iterator[None]:
    """A block that only one of the user's processes on this machine enters at a time for a file.

    Two runs with one results folder may both want a prediction file; the second then finds the answers of the first.
    """
    place = int(digest(str(out.resolve())), 16) >> 2  # one byte among 2^62 of a file that stays empty
    with open(shared_folder() / JOBS, "ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            log.info("another process is making %s: waiting for it to end", out)
            fcntl.lockf(file, fcntl.LOCK_EX, 1, place)
        yield


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Claim the worker with this socket until the block ends; whether it was idle."""
    try:
        handle = os.open(path.with_suffix(LOCK), os.O_RDONLY)  # not created here, but by the starter
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
        connection.settimeout(LEAVE_SECONDS)  # fails at once if too many are waiting already
        connection.connect(str(path))
        connection.settimeout(None)
        check_peer(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def check_peer(connection: socket.socket) -> int:
    """The id of the process at the other end. Raises PermissionError if it belongs to another user."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    if uid != os.getuid():
        raise PermissionError(f"a process of user {uid} is at the other end")
    return int(pid)


def read_message(line: bytes) -> dict[str, Any]:
    """A message between client and worker: a JSON object. Raises ValueError for anything else."""
    try:
        message = json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(message, dict):
        raise ValueError("it is not a JSON object")
    return message


def forget(path: Path) -> None:
    """Remove the socket and lock by which clients find a worker, but not the folder, which a client may soon use."""
    path.unlink(missing_ok=True)
    path.with_suffix(LOCK).unlink(missing_ok=True)


def ask_to_leave(path: Path) -> bool:
    """Ask a worker to leave if it is idle; whether it has left.

    It stays claimed until then, so that no client connects to a worker that is about to leave.
    """
    with claimed(path) as idle, suppress(OSError):
        if idle:
            with connect(path) as connection:
                connection.settimeout(LEAVE_SECONDS)  # it may still be working for a client that has died
                connection.sendall(LEAVE)
                return not connection.recv(1)
    return False
