"""Hashes of big files, remembered between runs.

A file's hash is taken from the cache only if size, inode, modification and change time are all as they were. The
change time is what a `touch -d` or a copy over the file cannot fake.
"""

import os
from pathlib import Path

from shardmark.files import canonical_json, file_sha256, read_json, write_whole


class HashCache:
    """SHA-256 of files by path, in one JSON file. `save` it when done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._known: dict[str, list[object]] = dict(read_json(path))
        except (OSError, ValueError, TypeError):
            self._known = {}  # a lost or damaged cache only costs time
        self._changed = False

    def sha256(self, path: Path) -> str:
        """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
        status = os.stat(path)
        stamp = [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
        key = str(path.resolve())
        known = self._known.get(key)
        if isinstance(known, list) and known[1:] == stamp:
            return str(known[0])
        value = file_sha256(path)
        self._known[key] = [value, *stamp]
        self._changed = True
        return value

    def save(self) -> None:
        """Write the cache back if it learnt something."""
        if self._changed:
            write_whole(self.path, canonical_json(self._known))
