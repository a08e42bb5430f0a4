"""Publish a report to a folder on this machine."""

import shutil
from pathlib import Path

from shardmark.errors import Problem, UserError
from shardmark.report.folder import whole_folder

from .publication import MARKER, Publication, foreign


def publish(wanted: Publication, target: Path) -> str:
    """Copy a report to its folder, in one step. Raises UserError if something else is there, or it cannot be made."""
    out = (target / wanted.below).resolve()  # where a link points to, which stays
    try:
        return _publish(wanted, out)
    except OSError as error:
        fix = "choose another folder, free some disk space there, or correct its permissions"
        raise UserError(Problem(str(error.filename or out), "", error.strerror or str(error), fix)) from error


def _publish(wanted: Publication, out: Path) -> str:
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if there and MARKER not in there:
        raise foreign(str(out))
    if hidden := sorted(name for name in there - {MARKER} if name.startswith(".")):
        what = f"holds {hidden[0]!r}, which is not part of a report, but would be replaced"
        raise UserError(Problem(str(out), "", what, "choose another folder, or move it away"))
    with whole_folder(out) as new:
        for name in wanted.files():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(wanted.report / name, new / name)
        (new / MARKER).write_bytes(wanted.marker)
    return f"published: {out}/index.html"
