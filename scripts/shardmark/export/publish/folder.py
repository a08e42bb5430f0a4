"""Publish a report to a folder on this machine."""

import shutil
from pathlib import Path

from shardmark.report.folder import whole_folder

from .publication import MARKER, Publication, foreign


def publish(wanted: Publication, target: Path) -> str:
    """Copy a report to its folder, in one step. Raises UserError if something else is there."""
    out = (target / wanted.below).absolute()
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise foreign(str(out))
    with whole_folder(out) as new:
        for name in wanted.files():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(wanted.report / name, new / name)
        (new / MARKER).write_bytes(wanted.marker)
    return f"published: {out}/index.html"
