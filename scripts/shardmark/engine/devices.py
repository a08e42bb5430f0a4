"""GPUs for one job alone: a file lock per device, held as long as the process lives.

Snakemake counts GPUs but assigns none, so each job takes its own, all or none, before torch is imported. The kernel
drops the locks when the holder dies, however it dies. Inside a Slurm job the scheduler has already assigned them.

A warm worker holds its devices between jobs. Beside the lock it notes its socket, where who waits for the device asks
it to leave; it does if it is idle.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from shardmark.engine.rendezvous import ask_to_leave
from shardmark.errors import Problem, UserError
from shardmark.files import write_whole
from shardmark.plan.machine import visible_gpus

POLL_SECONDS = 1.0


def default_locks() -> Path:
    """The folder of lock files that all users of this machine share."""
    return Path(tempfile.gettempdir()) / "shardmark-devices"


@contextmanager
def lease_gpus(count: int, locks: Path | None = None, holder: Path | None = None) -> Iterator[list[str]]:
    """Wait for `count` of the visible GPUs, hide the others from this process, give them back at the end.

    `holder` is the socket of a worker that leaves when asked to while it is idle.
    """
    if os.environ.get("SLURM_JOB_ID") and count:
        yield visible_gpus()
        return
    visible = visible_gpus()
    if count > len(visible):
        what = f"{count} GPUs are wanted, {len(visible)} are visible"
        raise UserError(Problem("CUDA_VISIBLE_DEVICES", "", what, "make more visible, or lower num_gpus"))
    with ExitStack() as held:
        locks = locks or default_locks()
        mine = _take(visible, count, locks, held)
        for device in mine:
            _note(locks, device, holder)
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        try:
            yield mine
        finally:
            os.environ.pop("CUDA_VISIBLE_DEVICES") if before is None else os.environ.update(CUDA_VISIBLE_DEVICES=before)


def _take(visible: list[str], count: int, locks: Path, held: ExitStack) -> list[str]:
    if not count:
        return []
    if not locks.is_dir():
        locks.mkdir(parents=True, exist_ok=True)
        locks.chmod(0o1777)  # other users lease from it, too
    while True:
        with ExitStack() as tried:
            mine: list[str] = []
            for device in visible:
                file = tried.enter_context(_lock_file(locks / device.replace("/", "_")))
                if len(mine) < count and _try_lock(file):
                    mine.append(device)
            if len(mine) == count:
                held.push(tried.pop_all())
                return mine
        left = 0
        for device in visible:
            if device not in mine and left < count - len(mine):  # no more workers than devices are missing
                left += _ask_holder(locks, device)
        time.sleep(POLL_SECONDS)


def _holder(locks: Path, device: str) -> Path:
    """Where this user's workers note who holds a device."""
    return locks / f"{device.replace('/', '_')}.{os.getuid()}.holder"


def _note(locks: Path, device: str, holder: Path | None) -> None:
    if holder:
        write_whole(_holder(locks, device), str(holder))
    else:
        _holder(locks, device).unlink(missing_ok=True)


def _ask_holder(locks: Path, device: str) -> bool:
    """Whether a worker that held the device has left it."""
    try:
        with open(_holder(locks, device)) as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():  # all users may write here: this is somebody's trick
                return False
            return ask_to_leave(Path(file.read()))
    except OSError:
        return False


@contextmanager
def _lock_file(path: Path) -> Iterator[IO[str]]:
    try:
        handle = os.open(path, os.O_RDONLY)  # a lock needs no right to write; O_CREAT on another user's file would
    except FileNotFoundError:
        handle = os.open(path, os.O_RDONLY | os.O_CREAT, 0o444)
        os.fchmod(handle, 0o444)  # whatever this user's umask
    with os.fdopen(handle) as file:
        yield file


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
