"""What was found out about files by reading them, remembered between runs.

It holds as long as size, inode, modification and change time of a file are all as they were. The change time is what
a `touch -d` or a copy over the file cannot fake. It moves in ticks of the kernel's clock, so a file that was changed in
this very tick is read in a later one: then whatever changes it afterwards has another time.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shardmark.errors import Problem, UserError
from shardmark.files import canonical_json, file_sha256, read_sealed, sealed, write_whole

TICK = 0.02
"Seconds; Linux stamps files every 1 to 10 ms."


class _Remembered:
    """A value for each path, with the stamp of the file it was made from. `save` it when done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, list[Any]] = read_sealed(path)  # a lost or damaged cache only costs time
        self._changed = False

    def _value(self, path: Path, make: Callable[[Path], str]) -> str:
        stamp, key = _stamp(path), str(path.resolve())
        known = self._known.get(key)
        if isinstance(known, list) and known[1:] == stamp:
            return str(known[0])
        if 0 <= time.time_ns() - stamp[-1] < TICK * 1e9:
            time.sleep(TICK)
        value = make(path)
        self._known[key] = [value, *stamp]
        self._changed = True
        return value

    def save(self) -> None:
        """Write back what was learnt."""
        if self._changed:
            write_whole(self.path, canonical_json(sealed(self._known)))
            self._changed = False


def _stamp(path: Path) -> list[int]:
    """What the file system says of a file. Compared as a whole, never by which time is later: clocks may be wrong."""
    status = os.stat(path)
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _refuse_change(path: Path, stamp: list[int]) -> None:
    with suppress(OSError):
        if _stamp(path) == stamp:
            return
    fix = "wait until it is written, or put another file in its place by renaming it; then run again"
    raise UserError(Problem(str(path), "", "changed while it was read for the plan", fix))


class HashCache(_Remembered):
    """SHA-256 of files by path, and whether those that were asked for are still the same."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._asked: dict[Path, tuple[str, list[int]]] = {}

    def sha256(self, path: Path) -> str:
        """The SHA-256 of a file's bytes, as 64 hexadecimal digits. Raises UserError if it changes meanwhile."""
        stamp = _stamp(path)

        def steadily(path: Path) -> str:
            value = file_sha256(path)
            _refuse_change(path, stamp)
            return value

        value = self._value(path, steadily)
        self._asked[path] = value, stamp
        return value

    @contextmanager
    def steady(self, path: Path | None) -> Iterator[None]:
        """A block that reads a file whose hash was asked for. Raises UserError if it is not that file at the end.

        None is no file, and steady.
        """
        try:
            yield
        finally:  # what half a file makes the reader say is of no use
            if path is not None:
                _refuse_change(path, self._asked[path][1])

    def changed(self) -> list[Path]:
        """The files asked for that hold other bytes by now, or are gone. Only those that were touched are read."""
        return [path for path, (value, stamp) in self._asked.items() if not _holds(path, value, stamp)]


def _holds(path: Path, value: str, stamp: list[int]) -> bool:
    """Whether a file has the content it had."""
    with suppress(OSError):
        return _stamp(path) == stamp or file_sha256(path) == value
    return False


class CheckedFiles(_Remembered):
    """Files that were checked and found whole."""

    def check(self, path: Path, check: Callable[[Path], None]) -> None:
        """Raise what `check` raises for a file, unless it has been found whole as it is."""

        def whole(path: Path) -> str:
            check(path)
            return "whole"

        self._value(path, whole)
