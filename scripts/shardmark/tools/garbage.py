"""Files in a results folder that no plan needs, found by their names and removed one by one.

Every path that Shardmark writes shows what it belongs to. A file with another name is not Shardmark's and stays, and so
does everything behind a symlink.
"""

import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from shardmark import layout
from shardmark.errors import Problem, UserError
from shardmark.layout import Kind
from shardmark.tools.needs import Needs

LINK = re.compile(r"reports/(?P<run>[A-Za-z0-9][A-Za-z0-9_.-]*)")
FRESH = 3600.0
"Seconds during which a file that one process writes and soon removes may still be wanted."


@dataclass(frozen=True)
class File:
    """A file below a results folder, and its fate."""

    path: Path
    kind: str
    "The name of this kind of file; empty if unknown."
    size: int
    "In bytes."
    fate: str
    "needed, unneeded, stale (predictions of other shards of a pair that is needed), fresh or unknown."


def survey(results: Path, needs: Needs) -> Iterator[File]:
    """All files of a results folder, including links, which are not followed."""
    now = time.time()
    for folder, subfolders, names in os.walk(results):
        links = [name for name in subfolders if os.path.islink(os.path.join(folder, name))]
        for name in [*names, *links]:
            path = Path(folder, name)
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue  # renamed or finished meanwhile
            kind, fate = _judge(path.relative_to(results).as_posix(), path, needs, now - status.st_mtime)
            yield File(path, kind, status.st_size, fate)


def _judge(relative: str, path: Path, needs: Needs, age: float) -> tuple[str, str]:
    """The kind of a file and its fate; `age` is the time since its modification, in seconds."""
    if path.is_symlink():
        return _judge_link(relative, os.readlink(path), needs)
    known = layout.identify(relative)
    return (known[0].label, _fate(*known, path, needs, age)) if known else ("", "unknown")


def _judge_link(relative: str, target: str, needs: Needs) -> tuple[str, str]:
    """The same for a symlink: only one from a run's name to its newest report is Shardmark's."""
    link = LINK.fullmatch(relative)
    if not (link and re.fullmatch(layout.NAMED, target)):
        return "", "unknown"
    return "reports", "needed" if link["run"] in needs.run else "unneeded"


def _fate(kind: Kind, fields: Mapping[str, str], path: Path, needs: Needs, age: float) -> str:
    if kind.always:
        return "needed"
    finished = kind is layout.PARTIALS and path.with_name(layout.PREDICTIONS.name(**fields)).exists()
    if kind.need and not finished and needs.has(kind.need, layout.KEYS[kind.need].format_map(fields)):
        return "needed"
    if kind is layout.PARTIALS and _is_alive(fields["host"], int(fields["process"]), age):
        return "fresh"
    if kind.brief and age < FRESH:
        return "fresh"
    of_pair = kind.need == "prediction" and layout.KEYS["pair"].format_map(fields) in needs.pair
    return "stale" if of_pair and not finished else "unneeded"


def _is_alive(host: str, process: int, age: float) -> bool:
    """Whether the process that writes a partial file may still run; on another machine, only the file's age tells."""
    if host != socket.gethostname():
        return age < FRESH
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def remove(results: Path, files: Iterable[File]) -> None:
    """Remove files of a results folder, and the folders that become empty. Raises UserError at the first failure."""
    folders = set()
    for file in files:
        try:
            file.path.unlink(missing_ok=True)
        except OSError as error:
            fix = "fix the permissions of its folder; files removed so far are gone, the rest is untouched"
            raise UserError(Problem(str(file.path), "", f"cannot be removed: {error.strerror}", fix)) from error
        folders.add(file.path.parent)
    for folder in folders:
        _drop_empty(folder, results)


def _drop_empty(folder: Path, results: Path) -> None:
    while folder != results:
        try:
            folder.rmdir()
        except OSError:
            return  # not empty
        folder = folder.parent
