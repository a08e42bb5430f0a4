"""Facts about files, found out by reading them and remembered between runs.

A fact holds as long as the size, inode, modification time and change time of its file stay the same. A `touch -d` or a
copy over the file cannot fake the change time. It moves in ticks of the kernel's clock, so a file that was changed in
the current tick is read in a later one: any change after that gets another time.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shardmark.errors import Problem, UserError
from shardmark.files import canonical_json, file_sha256, read_sealed, sealed, write_whole

TICK = 0.02
"Seconds; Linux stamps files every 1 to 10 ms."


class Remembered:
    """A value for each path, with the stamp of the file it was made from. `save` when done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, list[Any]] = read_sealed(path)  # a lost or damaged cache only costs time
        self._changed = False

    def _value(self, path: Path, make: Callable[[Path], str], kind: str = "") -> str:
        """The result of `make` for a file as it is; `kind` tells several such values of a file apart."""
        stamp, key = _stamp(path), f"{kind}{path.resolve()}"
        known = self._known.get(key)
        if isinstance(known, list) and known[1:] == stamp:
            return str(known[0])
        if 0 <= time.time_ns() - stamp[-1] < TICK * 1e9:
            time.sleep(TICK)
        value = make(path)
        self._known[key] = [value, *stamp]
        self._changed = True
        return value

    def _merge(self) -> None:
        """Add what other processes have written since."""
        self._known = read_sealed(self.path) | self._known

    def save(self) -> None:
        """Write back new values."""
        if self._changed:
            write_whole(self.path, canonical_json(sealed(self._known)))
            self._changed = False

    def save_existing(self) -> None:
        """Write back new values, with those that other processes have written since; forget files that are gone."""
        if self._changed:
            self._merge()
            self._known = {key: value for key, value in self._known.items() if os.path.exists(key)}
            self.save()


def _stamp(path: Path) -> list[int]:
    """A file's stamp, from its metadata. Compared as a whole, never by which time is later: clocks may be wrong."""
    status = os.stat(path)
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _refuse_change(path: Path, stamp: list[int]) -> None:
    with suppress(OSError):
        if _stamp(path) == stamp:
            return
    fix = "wait until it has been written, or replace it by renaming another file; then run again"
    raise UserError(Problem(str(path), "", "changed while it was read", fix))


class HashCache(Remembered):
    """SHA-256 of files by path, and whether the files that were asked for are still the same."""

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

    def fact(self, path: Path, make: Callable[[Path], str], kind: str) -> str:
        """The result of a function for a file, such as a part of its header; `kind` names and versions the function."""
        return self._value(path, make, kind)

    @contextmanager
    def steady(self, paths: Iterable[Path]) -> Iterator[None]:
        """A context that reads files whose hashes were asked for. Raises UserError if one of them changes meanwhile."""
        try:
            yield
        finally:  # errors from reading half a file are of no use
            for path in paths:
                _refuse_change(path, self._asked[path][1])

    def changed(self) -> list[Path]:
        """The files asked for that have other bytes by now, or are gone. Reads only those that were touched."""
        return [path for path, (value, stamp) in self._asked.items() if not _holds(path, value, stamp)]


def _holds(path: Path, value: str, stamp: list[int]) -> bool:
    """Whether a file still has the content it had."""
    with suppress(OSError):
        return _stamp(path) == stamp or file_sha256(path) == value
    return False


class CheckedFiles(Remembered):
    """Files that were checked and found intact."""

    def check(self, path: Path, check: Callable[[Path], None]) -> None:
        """Raise the error of `check` for a file, unless it was found intact and has not changed."""

        def whole(path: Path) -> str:
            check(path)
            return "whole"

        self._value(path, whole)
