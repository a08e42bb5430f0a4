"""Data that pages load on demand: JSON, deflated, in scripts that also load from the file system.

A page from the file system may not fetch, but may load scripts beside it. So a chunk is a script of one call,
`shardmark("NAME","BASE64");`, whose literal contains only letters, digits, "+", "/" and "=", whatever the data is; the
loader (templates/loader.js) inflates it and passes it to JSON.parse. A chunk's name is a digest of its JSON: the same
data is stored once, and the content under a name never changes.
"""

import base64
import hashlib
import os
import shutil
import zlib
from pathlib import Path

import msgspec

from shardmark.files import DIGEST_LENGTH

FOLDER = "data"
"The folder of a report's chunks."
LEVEL = 6
"Compression level of zlib."


class Chunks:
    """The chunks of a report, below its folder."""

    def __init__(self, report: Path) -> None:
        self.folder = report / FOLDER
        self.folder.mkdir(exist_ok=True)
        self.sizes: dict[str, int] = {}
        "The size in bytes of each chunk's file, by its name."

    def add(self, value: object) -> str:
        """Write a JSON value, dataclasses and msgspec's structs included, and return the chunk's name."""
        return self.add_json(msgspec.json.encode(value))

    def add_json(self, text: bytes) -> str:
        """Write a value that is already JSON in UTF-8, and return the chunk's name."""
        name = hashlib.sha256(text).hexdigest()[:DIGEST_LENGTH]
        if name not in self.sizes:
            self.sizes[name] = self.file(name).write_bytes(_script(name, text))
        return name

    def add_named(self, name: str, value: object) -> None:
        """Write a JSON value under a fixed name, for chunks that a page loads first."""
        self.sizes[name] = self.file(name).write_bytes(_script(name, msgspec.json.encode(value)))

    def file(self, name: str) -> Path:
        """The file of a chunk."""
        return self.folder / f"{name}.js"

    def take(self, name: str, folder: Path) -> None:
        """Add a chunk from a folder of chunks."""
        if name not in self.sizes:
            link(folder / f"{name}.js", self.file(name))
            self.sizes[name] = self.file(name).stat().st_size


def link(source: Path, target: Path) -> None:
    """Link a file that never changes to a second name, or copy it if the file system has no hard links."""
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:
        shutil.copyfile(source, target)


def _script(name: str, text: bytes) -> bytes:
    return b'shardmark("%s","%s");\n' % (name.encode("ascii"), base64.b64encode(zlib.compress(text, LEVEL)))
