"""A folder that is complete whenever it exists."""

import ctypes
import errno
import fcntl
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shardmark.errors import Problem, UserError
from shardmark.files import umask

REPORT = {
    *("index.html", "samples.html", "metrics.html", "provenance.html", "compare.html", "charts.html", "changes.html"),
    *("gate.html", "gate.json", "leaderboard.html", "leaderboard.csv", "leaderboard.md", "ro-crate-metadata.json"),
    *("data", "charts", "certificates", "samples", "exports"),
}
"Files and folders that a report may contain, including earlier versions'; other files are the user's own."


JUST_BEGUN = 60.0
"Seconds within which a new folder may not be held yet."
AT_FDCWD, RENAME_EXCHANGE = -100, 2
"Constants of Linux's renameat2."


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a new folder beside `out` that replaces it once the block has succeeded.

    If the block fails, a report at `out` stays as it was and the new folder is removed. Raises UserError if something
    other than a report or an empty folder is there.
    """
    out = out.absolute()
    _refuse_foreign(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(out)
    new = Path(tempfile.mkdtemp(prefix=f"{out.name}.tmp-", dir=out.parent))
    holder = os.open(new, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(holder, fcntl.LOCK_SH)
        new.chmod(0o777 & ~umask())  # mkdtemp lets nobody else in, but a report has the usual permissions
        yield new
        _replace(out, new)
    finally:
        os.close(holder)
        shutil.rmtree(new, ignore_errors=True)


def _remove_abandoned(out: Path) -> None:
    """Remove the new folders of processes that were killed: those that nobody holds, and that are not just begun."""
    for path in out.parent.glob(f"{glob.escape(out.name)}.tmp-*"):
        with suppress(OSError):
            folder = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - path.stat().st_mtime > JUST_BEGUN:
                    shutil.rmtree(path)
            finally:
                os.close(folder)


def _refuse_foreign(out: Path) -> None:
    """Refuse to replace foreign files: a mistyped --out must not cost the user a folder of something else."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(Problem(str(out), "", "is not a folder", "choose another place"))
    foreign = sorted(path.name for path in out.iterdir() if path.name not in REPORT and path.name[0] != ".")
    if foreign:
        what = f"holds {foreign[0]!r}, which is not part of a report, but would be replaced"
        raise UserError(Problem(str(out), "", what, "choose another folder"))


def _replace(out: Path, new: Path) -> None:
    """Put a folder in the place of another, which may come or go meanwhile: the last one to be ready stays."""
    while True:
        if _exchange(out, new):
            return
        old = Path(tempfile.mkdtemp(prefix=f"{out.name}.old-", dir=out.parent))
        with suppress(FileNotFoundError):
            out.rename(old)
        try:
            new.rename(out)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
        finally:
            shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, so that a kill leaves one of them there; False where that cannot be done."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "renameat2"):
        return False
    return libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0
