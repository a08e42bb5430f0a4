"""Check that files from the Hub have the content that the Hub reports for their commit.

A file is hashed once on each machine since it booted, then remembered by path, inode, size and times; jobs of a cluster
read weights through a network, and each node must have seen the right bytes itself.
"""

import hashlib
import os
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from shardmark import layout
from shardmark.files import file_sha256
from shardmark.records.model import HubFile
from shardmark.store.hashes import Remembered

SMALL = 1 << 24
"Bytes; a plan hashes files up to this size unasked: tokenizers are smaller, weights are larger."
MONTH = 30 * 86400.0
"Seconds after which a machine's remembered hashes are of no more use."
CHUNK = 1 << 20


class Fault(NamedTuple):
    """A fault of a file."""

    path: Path
    what: str
    size: int | None
    "How many bytes to fetch."
    is_missing: bool


class ContentHashes(Remembered):
    """Hashes of files, remembered until this machine reboots. `save` them when done."""

    def __init__(self, results: Path | None) -> None:
        """They are kept in a results folder; without one, only in this process."""
        super().__init__(layout.CONTENTS.file(results, file=f"{boot_id()}.json") if results else Path(os.devnull))
        self._kept = results is not None

    def fits(self, path: Path, file: HubFile) -> bool:
        """Whether a file has the reported content."""
        kind, wanted = ("sha256", file.sha256) if file.sha256 else ("git", file.git)
        if wanted is None:
            return True
        return self._value(path, file_sha256 if kind == "sha256" else git_name, f"{kind}:") == wanted

    def save(self) -> None:
        """Write back new hashes, together with those that other processes on this machine have added since."""
        if not self._changed or not self._kept:
            return
        self._merge()
        with suppress(OSError):  # it only saves time
            super().save()
            for other in self.path.parent.glob("*.json"):
                if time.time() - other.stat().st_mtime > MONTH:
                    other.unlink(missing_ok=True)


def boot_id() -> str:
    """An identifier of this boot of this machine."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return socket.gethostname()


def git_name(path: Path) -> str:
    """Git's name for the content of a file: the SHA-1 of its length and its bytes."""
    with open(path, "rb") as file:
        name = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        while chunk := file.read(CHUNK):
            name.update(chunk)
    return name.hexdigest()


def faults(
    folder: Path, files: Mapping[str, HubFile], hashes: ContentHashes | None, most: float = float("inf")
) -> list[Fault]:
    """The files of a snapshot that are missing or have other content; files over `most` bytes are checked by size only.

    Without `hashes`, all are checked by size only.
    """
    return list(_faults(folder, files, hashes, most))


def _faults(folder: Path, files: Mapping[str, HubFile], hashes: ContentHashes | None, most: float) -> Iterable[Fault]:
    for name, file in files.items():
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError:
            yield Fault(path, "does not exist", file.size, True)
            continue
        if file.size is not None and size != file.size:
            yield Fault(path, f"has {size:,} bytes, but {file.size:,} in its commit", file.size, False)
        elif hashes and size <= most and not hashes.fits(path, file):
            yield Fault(path, f"its content is not that of its commit ({_named(file)})", file.size, False)


def _named(file: HubFile) -> str:
    return f"SHA-256 {file.sha256[:12]}..." if file.sha256 else f"git blob {str(file.git)[:12]}..."
