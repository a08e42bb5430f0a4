"""GPUs for one job alone: a file lock per device, held as long as the process lives.

Snakemake counts GPUs but assigns none, so each job takes its own, all or none, before torch is imported. The kernel
drops the locks when the holder dies, however it dies. Inside a Slurm job the scheduler has already assigned them.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from shardmark.errors import Problem, UserError
from shardmark.plan.machine import visible_gpus

POLL_SECONDS = 1.0


def default_locks() -> Path:
    """The folder of lock files that all users of this machine share."""
    return Path(tempfile.gettempdir()) / "shardmark-devices"


@contextmanager
def lease_gpus(count: int, locks: Path | None = None) -> Iterator[list[str]]:
    """Wait for `count` of the visible GPUs, hide the others from this process, give them back at the end."""
    if os.environ.get("SLURM_JOB_ID") and count:
        yield visible_gpus()
        return
    visible = visible_gpus()
    if count > len(visible):
        what = f"{count} GPUs are wanted, {len(visible)} are visible"
        raise UserError(Problem("CUDA_VISIBLE_DEVICES", "", what, "make more visible, or lower num_gpus"))
    with ExitStack() as held:
        mine = _take(visible, count, locks or default_locks(), held)
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
        time.sleep(POLL_SECONDS)


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
