"""Copies of weights on the node's own disk: made once, by the job that comes first, and used by all jobs after it.

A copy is named by its source folder and by the sizes and times of its files. It is either complete or not there, and
its bytes are compared with what was read. Locks are on the node's own disk. A job that uses a copy holds a shared lock
on it as long as it lives; copies that nobody holds make room for new ones, the least recently used first. Results don't
depend on any of this.
"""

import fcntl
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from pathlib import Path

from shardmark.files import digest, file_sha256
from shardmark.lock.contents import UNUSED
from shardmark.plan.machine import SCRATCH
from shardmark.records.model import Staged

SPARE = 1 << 30
"Bytes that must stay free after a copy."
CHUNK = 1 << 24
log = logging.getLogger(__name__)


@contextmanager
def on_scratch(staged: Staged) -> Iterator[Staged]:
    """The folders of weights and tokenizer, copied to the node's disk if one is set and has room, else as given."""
    base = scratch_folder()
    if base is None:
        yield staged
        return
    with ExitStack() as held:
        places = {folder: _copied(Path(folder), base, held) for folder in staged.folders}
        yield Staged(
            model=str(places.get(staged.model, "")),
            tokenizer=str(places.get(staged.tokenizer, "")),
            adapter=staged.adapter and str(places[staged.adapter]),
        )


def scratch_folder() -> Path | None:
    """The folder of this user's copies, created if necessary; None if none is set or it cannot be used."""
    wanted = os.environ.get(SCRATCH, "")
    if not wanted:
        return None
    path = os.path.expanduser(os.path.expandvars(wanted))
    if re.search(r"\$\w|\$\{", path):
        log.warning("scratch is %s, which is not set on this node: weights are not copied", wanted)
        return None
    folder = Path(path) / f"shardmark-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid() or not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder} belongs to another user")
    except OSError as error:
        log.warning("scratch cannot be used, so weights are not copied: %s", error)
        return None
    return folder


def _copied(source: Path, base: Path, held: ExitStack) -> Path:
    """A complete copy of a folder, held until the end of `held`; the folder itself if there is no room."""
    files = _files(source)
    copy = base / digest([str(source), {name: list(status) for name, status in files.items()}])
    with open(copy.with_suffix(".lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # jobs that come meanwhile wait for the copy
        try:
            if not _is_whole(copy, files):
                _make_room(base, sum(status[0] for status in files.values()))
                _copy(source, copy, list(files))
        except OSError as error:
            log.warning("%s cannot be copied to the node's disk, and is read from its own place: %s", source, error)
            return source
        os.utime(copy)
        handle = os.open(copy.with_suffix(".users"), os.O_RDWR | os.O_CREAT, 0o600)
        held.callback(os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_SH)
    return copy


def _files(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Size and times of each file by its path in a folder. Links are followed, files that no model loads left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and not any(fnmatch(name.as_posix(), pattern) for pattern in UNUSED):
            status = path.stat()
            found[name.as_posix()] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def _is_whole(copy: Path, files: dict[str, tuple[int, int, int]]) -> bool:
    """Whether a copy has each file in its right size; more was checked when it was made."""
    try:
        return copy.is_dir() and all((copy / name).stat().st_size == size for name, (size, *_) in files.items())
    except OSError:
        return False


def _copy(source: Path, copy: Path, names: list[str]) -> None:
    """Copy files, compare their bytes with what was read, and give the folder its name. Raises OSError."""
    log.info("copying %s to %s", source, copy)
    shutil.rmtree(copy, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=copy.parent, prefix=f".{copy.name}."))
    try:
        for name in names:
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if _copy_file(source / name, target) != file_sha256(target):
                raise OSError(f"{target} differs from what was written to it")
        os.rename(temporary, copy)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy_file(source: Path, target: Path) -> str:
    """Copy a file; returns the SHA-256 of the bytes read."""
    read = hashlib.sha256()
    with open(source, "rb") as from_file, open(target, "wb") as to_file:
        while chunk := from_file.read(CHUNK):
            read.update(chunk)
            to_file.write(chunk)
    return read.hexdigest()


def _make_room(base: Path, needed: int) -> None:
    """Remove unused copies until enough bytes are free, the least recently used first. Raises OSError."""
    copies = [path for path in base.iterdir() if path.is_dir()]
    for path in sorted(copies, key=lambda path: path.stat().st_mtime):
        if shutil.disk_usage(base).free >= needed + SPARE:
            return
        with open(path.with_suffix(".users"), "a") as users:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(path, ignore_errors=True)
    free = shutil.disk_usage(base).free
    if free < needed + SPARE:
        raise OSError(f"{needed >> 20} MiB are needed in {base}, but {free >> 20} MiB are free")
