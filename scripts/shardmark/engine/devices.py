"""Exclusive GPUs for one job: a file lock per device, held as long as the process lives.

Snakemake counts GPUs but assigns none, so each job takes its own, all or none, before torch is imported. The kernel
drops the locks when the holder dies, for whatever reason, and wakes those who wait for them: nobody polls. A job that
finds enough free devices takes them, so no device is idle while a waiting job could use it. Small jobs could then keep
a large one waiting for ever. A job that has waited for PATIENCE_SECONDS therefore keeps each device it gets until it
has all, one process at a time, so that no two wait for each other.

In a Slurm job the leases are private to the job: its devices are its own already, and its processes share them out.

A warm worker holds its devices between jobs. Beside the lock it notes its socket. A process that waits for the device
asks the worker there to leave, which it does if it is idle.
"""

import fcntl
import logging
import os
import pwd
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from shardmark.errors import Problem, UserError
from shardmark.files import write_whole
from shardmark.plan.machine import visible_gpus
from shardmark.processes.sockets import ask_to_leave

LOCKS = "SHARDMARK_DEVICE_LOCKS"
"The variable that names another folder of locks. All who share devices must share it, whatever their TMPDIR."
TURN, FIRST = "turn", "first"
"Locks of the process that is looking for devices, and of the process that keeps the devices it gets until it has all."
TURN_SECONDS = 2.0
"Seconds to wait for a turn: a process that is stopped during its own turn must not block the others."
PATIENCE_SECONDS = 600.0
ASK_SECONDS = 2.0
"Seconds between asking workers that hold devices whether they are idle by now; they do not announce it."
SAY_SECONDS = (10.0, 600.0)
"Seconds after which the log names the holders of the devices, and seconds between repetitions."
log = logging.getLogger(__name__)


def default_locks() -> Path:
    """The folder of lock files that all users of this machine share; within a Slurm job, a folder for that job."""
    base = Path(os.environ.get(LOCKS) or "/tmp/shardmark-devices")
    job = os.environ.get("SLURM_JOB_ID")
    return base / f"slurm-{job}" if job else base


@contextmanager
def lease_gpus(count: int, locks: Path | None = None, holder: Path | None = None) -> Iterator[list[str]]:
    """Wait for `count` of the visible GPUs, hide the others from this process, and release them at the end.

    `holder` is the socket of a worker that leaves when asked to while it is idle.
    """
    there = visible_gpus() if count else []
    if count > len(there):
        what = f"{count} GPUs are needed, but {len(there)} are visible"
        raise UserError(Problem("CUDA_VISIBLE_DEVICES", "", what, "make more GPUs visible, or lower num_gpus"))
    with ExitStack() as held:
        mine: list[str] = []
        if count:
            locks = locks or default_locks()
            held.enter_context(_folder(locks))
            mine = _Wait(locks, there, count, held).taken()
            for device in mine:
                _note(locks, device, holder)
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        try:
            yield mine
        finally:
            os.environ.pop("CUDA_VISIBLE_DEVICES") if before is None else os.environ.update(CUDA_VISIBLE_DEVICES=before)


@dataclass
class _Wait:
    """One process's wait for its devices."""

    locks: Path
    visible: list[str]
    count: int
    held: ExitStack
    "The locks that stay when the wait is over."
    mine: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    "The devices that others held at the last attempt."
    watched: set[str] = field(default_factory=set)
    woken: threading.Event = field(default_factory=threading.Event)

    def taken(self) -> list[str]:
        """The devices, as soon as this process holds them."""
        begin, said = time.monotonic(), 0
        with ExitStack() as first:
            keeps = False
            while not self._attempt(keeps):
                for device in self.busy:
                    self._watch(device)
                self._ask_holders()
                waited = time.monotonic() - begin
                keeps = keeps or (waited >= PATIENCE_SECONDS and _locked(self.locks / FIRST, first))
                if waited > SAY_SECONDS[0] + said * SAY_SECONDS[1]:
                    said += 1
                    log.warning("waiting for %d GPUs; %s", self.count, self._holders())
                self.woken.wait(ASK_SECONDS)
        return sorted(self.mine, key=self.visible.index)

    def _attempt(self, keeps: bool) -> bool:
        """Take the free devices if they are enough, or if this process may keep them; whether it now has enough."""
        self.woken.clear()  # cleared first: a device released from now on ends the next pause
        with _turn(self.locks), ExitStack() as tried:
            new: list[str] = []
            self.busy = []
            for device in self.visible:
                if device in self.mine or len(self.mine) + len(new) == self.count:
                    continue
                (new if _locked(_lock(self.locks, device), tried) else self.busy).append(device)
            if keeps or len(self.mine) + len(new) == self.count:
                self.held.push(tried.pop_all())
                self.mine += new
        return len(self.mine) == self.count

    def _watch(self, device: str) -> None:
        """Wake up when a device is released, in whatever way. The lock for that is shared, and released at once."""
        if device in self.watched:
            return
        self.watched.add(device)

        def watch() -> None:
            with suppress(OSError), _lock_file(_lock(self.locks, device)) as file:
                fcntl.flock(file, fcntl.LOCK_SH)
            self.watched.discard(device)
            self.woken.set()

        threading.Thread(target=watch, daemon=True).start()

    def _ask_holders(self) -> None:
        left = len(self.mine)
        for device in self.busy:
            if left < self.count:  # ask no more workers than devices are missing
                left += _ask_holder(self.locks, device)

    def _holders(self) -> str:
        """The holders of the devices, for the log."""
        return ", ".join(f"{device} is held by {_lock_holder(_lock(self.locks, device))}" for device in self.busy)


@contextmanager
def _folder(locks: Path) -> Iterator[None]:
    """The folder of locks, created if necessary, open to all users, and safe from cleanup of old files."""
    for path in (locks.parent, locks) if locks.name.startswith("slurm-") else (locks,):
        with suppress(FileExistsError):
            path.mkdir(parents=True)
            path.chmod(0o1777)  # other users lease devices here, too
    if not os.access(locks, os.R_OK | os.W_OK | os.X_OK):
        raise _not_open(locks)
    handle = os.open(locks, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)  # systemd-tmpfiles leaves such a folder alone
        yield
    finally:
        os.close(handle)


def _not_open(path: Path) -> UserError:
    status = os.lstat(path)
    what = f"is not accessible to you: it belongs to {_user(status.st_uid)}, with mode {stat.S_IMODE(status.st_mode):o}"
    return UserError(Problem(str(path), "", what, f"have it removed, or set {LOCKS} to a folder that all runs share"))


@contextmanager
def _turn(locks: Path) -> Iterator[None]:
    """A block that only one process is in at a time, unless another stays in it for too long."""
    with ExitStack() as held:
        deadline = time.monotonic() + TURN_SECONDS
        while not _locked(locks / TURN, held) and time.monotonic() < deadline:
            time.sleep(0.005)
        yield


def _lock(locks: Path, device: str) -> Path:
    """The lock of a device."""
    return locks / device.replace("/", "_")


def _note(locks: Path, device: str, holder: Path | None) -> None:
    """Note, in a file of this user, the socket at which the holder of a device can be asked to leave."""
    note = _holder(locks, device)
    try:
        write_whole(note, str(holder)) if holder else note.unlink(missing_ok=True)
    except OSError as error:  # another user's file has this name: the worker stays until its idle time ends
        log.warning("processes that wait for %s cannot ask this worker to leave: %s", device, error)


def _holder(locks: Path, device: str) -> Path:
    """The file in which this user's workers note the holder of a device."""
    return locks / f"{device.replace('/', '_')}.{os.getuid()}.holder"


def _ask_holder(locks: Path, device: str) -> bool:
    """Ask the holder of a device to leave; whether a worker that held it has left."""
    try:
        with open(os.open(_holder(locks, device), os.O_RDONLY | os.O_NONBLOCK)) as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():  # all users may write here, so the file may be a trap
                return False
            return ask_to_leave(Path(file.read()))
    except (OSError, ValueError):
        return False


def _locked(path: Path, held: ExitStack) -> bool:
    """Lock a file exclusively until `held` is closed; False if another process has locked it."""
    with ExitStack() as tried:
        file = tried.enter_context(_lock_file(path))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        held.push(tried.pop_all())
        return True


@contextmanager
def _lock_file(path: Path) -> Iterator[IO[str]]:
    """An open file to lock. Raises UserError if its owner does not let others open it."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a lock needs no right to write; a FIFO is no trap
    try:
        try:
            handle = os.open(path, flags)  # O_CREAT on another user's file would be refused
        except FileNotFoundError:
            handle = os.open(path, flags | os.O_CREAT, 0o444)
            os.fchmod(handle, 0o444)  # regardless of the umask
    except PermissionError:
        raise _not_open(path) from None
    with os.fdopen(handle) as file:
        yield file


def _lock_holder(path: Path) -> str:
    """The process that has locked a file, and its user, as far as the kernel reveals it."""
    try:
        status = os.stat(path)
        place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1:2] == ["FLOCK"] and place in words:
                pid = words[words.index(place) - 1]
                return f"process {pid} of {_user(os.stat(f'/proc/{pid}').st_uid)}"
    except OSError:
        pass
    return "a process that cannot be seen"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
