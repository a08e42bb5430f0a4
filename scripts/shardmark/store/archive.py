"""Archives: a zstd-compressed tar file of a manifest, then each content once, named by its SHA-256.

Each member is a zstd frame of its own, so that interrupted writing of an archive resumes after the last whole one.
Reading trusts nothing: the members must be plain files, those that the manifest lists, in its order, with its sizes and
hashes, and nothing may follow; so no header and no content takes more memory or disk than was announced.
"""

import hashlib
import os
import re
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from shardmark.errors import Problem, UserError
from shardmark.files import pretty_json
from shardmark.records.archive import Manifest, PackedFile
from shardmark.records.base import Unreadable, decode, to_json

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FORMAT = 1
MANIFEST = "manifest.json"
BLOCK = tarfile.BLOCKSIZE
CHUNK = 1 << 20
OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 3,
    zstd.CompressionParameter.checksum_flag: 1,
}
LARGEST_MANIFEST = 1 << 26
"In bytes: enough for some 200,000 files."
LARGEST_WINDOW = 27
"The most memory that a frame may ask for: a power of two, in bytes."
PLAUSIBLE = 1000
"How many times its own size an archive may unpack to, beyond one gibibyte."
GIBIBYTE = 1 << 30
END = bytes(2 * BLOCK)
SHA256 = re.compile("[0-9a-f]{64}")
BLOB = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
HUB_NAME = re.compile(
    r"(?P<repository>(models|datasets)--[^/]+)/(snapshots/[0-9a-f]{40}/.+|refs/.+|trees/[0-9a-f]{40}\.json)"
)
LONGEST_NAME = 1024
NOT_DATA = {"scripts", "rules", "profiles", "envs", "tests", "benchmarks", "results", "local", "slurm", "docs"}
"Folders of a clone that are never unpacked to."
DATA = {".jsonl", ".json", ".gguf"}
"Suffixes of the files that may lie beside the Snakefile."
Content = Path | bytes
"The content of a member: that of a file, or bytes."
Step = Callable[[int], object]
"A callback that takes the number of further bytes done."


class ArchiveRefused(ValueError):
    """The reason why an archive is not unpacked."""


class Member(NamedTuple):
    """A content of an archive."""

    sha256: str
    size: int
    git: bool
    "Whether the Hub's cache names it by git's hash, which is then checked, too."


def members(manifest: Manifest) -> list[Member]:
    """The contents of an archive, each once, in order."""
    found: dict[str, Member] = {}
    for file in manifest.files:
        known = found.get(file.sha256)
        git = len(file.blob) == 40 or (known is not None and known.git)
        found[file.sha256] = Member(file.sha256, file.size, git)
    return list(found.values())


# Writing


def write_archive(
    out: Path, manifest: Manifest, contents: Mapping[str, Content], step: Step = lambda size: None
) -> None:
    """Write an archive, resuming an earlier attempt that was interrupted.

    `contents` are by SHA-256. The same manifest gives the same bytes. Raises UserError for a file that has changed.
    """
    first = pretty_json(to_json(manifest)).encode()
    parts = [(MANIFEST, len(first), first), *((m.sha256, m.size, contents[m.sha256]) for m in members(manifest))]
    partial, journal = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.progress")
    out.parent.mkdir(parents=True, exist_ok=True)
    done = _resumed(partial, journal, hashlib.sha256(first).hexdigest())
    with open(partial, "ab") as file, open(journal, "a", encoding="ascii") as notes:
        for name, size, content in parts[done:]:
            with zstd.ZstdFile(file, "w", options=OPTIONS) as frame:
                _write_member(frame, name, size, content, step)
            file.flush()
            os.fsync(file.fileno())
            notes.write(f"{file.tell()}\n")
            notes.flush()
        file.write(zstd.compress(END, options=OPTIONS))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, out)
    journal.unlink()


def _resumed(partial: Path, journal: Path, identity: str) -> int:
    """How many members an earlier attempt has written; truncates the file after them."""
    with suppress(OSError, ValueError):
        first, *ends = journal.read_text("ascii").splitlines()
        if first == identity and ends and partial.stat().st_size >= int(ends[-1]):
            os.truncate(partial, int(ends[-1]))
            return len(ends)
    partial.unlink(missing_ok=True)
    journal.write_text(f"{identity}\n", "ascii")
    return 0


def _write_member(frame: zstd.ZstdFile, name: str, size: int, content: Content, step: Step) -> None:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o644
    frame.write(header.tobuf(tarfile.GNU_FORMAT))
    if isinstance(content, bytes):
        frame.write(content)
    else:
        _copy(content, name, size, frame, step)
    frame.write(bytes(-size % BLOCK))


def _copy(path: Path, sha256: str, size: int, frame: zstd.ZstdFile, step: Step) -> None:
    hashed, left = hashlib.sha256(), size
    with open(path, "rb") as file:
        while chunk := file.read(min(CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            hashed.update(chunk)
            frame.write(chunk)
            step(len(chunk))
    if left or hashed.hexdigest() != sha256:
        raise UserError(
            Problem(str(path), "", "changed while it was packed", "wait until it has been written, then pack again")
        )


# Reading


class Reader:
    """Reads an archive from beginning to end. Raises ArchiveRefused or OSError."""

    def __init__(self, path: Path) -> None:
        self._size = path.stat().st_size
        self._stream = zstd.ZstdFile(path, options={zstd.DecompressionParameter.window_log_max: LARGEST_WINDOW})

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def manifest(self) -> Manifest:
        """The manifest, checked by itself."""
        size = self._header(MANIFEST)
        if size > LARGEST_MANIFEST:
            raise ArchiveRefused(f"its manifest has {size:,} bytes")
        content = b"".join(self._content(size))
        try:
            manifest = decode(content, Manifest)
        except Unreadable as error:
            raise ArchiveRefused(f"its manifest cannot be read: {error}") from error
        if manifest.archive > FORMAT:
            raise ArchiveRefused("it was packed by a newer Shardmark")
        check_manifest(manifest, self._size)
        return manifest

    def member(self, expected: Member, out: IO[bytes] | None, step: Step = lambda size: None) -> None:
        """Write the next content, which must be the expected one, to `out`; None skips it."""
        size = self._header(expected.sha256)
        if size != expected.size:
            raise ArchiveRefused(f"member {expected.sha256} has {size:,} bytes, but {expected.size:,} in its manifest")
        hashed, git = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        for chunk in self._content(size):
            hashed.update(chunk)
            if expected.git:
                git.update(chunk)
            if out:
                out.write(chunk)
            step(len(chunk))
        if hashed.hexdigest() != expected.sha256:
            raise ArchiveRefused(f"member {expected.sha256} has contents that do not match its name")
        self.git = git.hexdigest() if expected.git else ""

    git: str = ""
    "Git's hash of the member that was read last, if the Hub's cache names it by that."

    def end(self) -> None:
        """Check that nothing follows."""
        if self._read(len(END)) != END or self._read(1):
            raise ArchiveRefused("it contains more than its manifest lists")

    def _header(self, name: str) -> int:
        """The size of the next member, which must be a plain file of this name."""
        block = self._exactly(BLOCK)
        try:
            found = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeError) as error:
            raise ArchiveRefused(f"there is no member of a tar file in the place of {name}: {error}") from error
        if found.type != tarfile.REGTYPE:
            raise ArchiveRefused(f"{found.name!r} is not a regular file")
        if found.name != name:
            raise ArchiveRefused(f"{found.name!r} is in the place of {name}")
        if found.size < 0:
            raise ArchiveRefused(f"{found.name!r} has a negative size")
        return int(found.size)

    def _content(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            chunk = self._exactly(min(CHUNK, left))
            left -= len(chunk)
            yield chunk
        if self._exactly(-size % BLOCK).strip(b"\0"):
            raise ArchiveRefused("it contains data between its members")

    def _exactly(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            chunk = self._read(size - len(found))
            if not chunk:
                raise ArchiveRefused("it is cut off")
            found += chunk
        return bytes(found)

    def _read(self, size: int) -> bytes:
        found = bytearray()
        try:
            while len(found) < size and (chunk := self._stream.read(size - len(found))):
                found += chunk
        except EOFError as error:
            raise ArchiveRefused("it is cut off") from error
        except (zstd.ZstdError, MemoryError) as error:
            raise ArchiveRefused(f"it is damaged, or not an archive of Shardmark: {error}") from error
        return bytes(found)


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """An archive to read. Raises UserError, with its name, for an ArchiveRefused within the block."""
    try:
        reader = Reader(path)
        try:
            yield reader
        finally:
            reader.close()
    except ArchiveRefused as error:
        fix = "nothing was unpacked; get it again from a source that you trust"
        raise UserError(Problem(str(path), "", f"refused: {error}", fix)) from error


def belongs_in_project(name: str) -> bool:
    """Whether a path in a project may belong to its configuration or data rather than to Shardmark or a tool."""
    top, _, rest = name.partition("/")
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and (top not in NOT_DATA if rest else Path(top).suffix in DATA)


def check_manifest(manifest: Manifest, archive_bytes: int) -> None:
    """Raise ArchiveRefused for a manifest whose files escape their places or conflict, or that is a bomb."""
    sizes: dict[str, int] = {}
    names: set[tuple[str, str]] = set()
    for file in manifest.files:
        _check_file(file)
        if sizes.setdefault(file.sha256, file.size) != file.size or (file.place, file.name) in names:
            raise ArchiveRefused(f"its manifest lists {file.name!r} twice, or with two sizes")
        names.add((file.place, file.name))
    for place, name in names:
        for parent in PurePosixPath(name).parents:
            if (place, str(parent)) in names:
                raise ArchiveRefused(f"its manifest lists {name!r} below the file {str(parent)!r}")
    total = sum(sizes.values())
    if total > GIBIBYTE + PLAUSIBLE * archive_bytes:
        raise ArchiveRefused(f"its {archive_bytes:,} bytes claim to hold {total:,}: a decompression bomb")


def _check_file(file: PackedFile) -> None:
    parts = file.name.split("/")
    odd = any(part in ("", ".", "..") for part in parts) or not file.name.isprintable() or "\\" in file.name
    if odd or len(file.name) > LONGEST_NAME:
        raise ArchiveRefused(
            f"{file.name[:LONGEST_NAME]!r} in its manifest points outside its folder, or is not a plain path"
        )
    if file.place == "hub" and not HUB_NAME.fullmatch(file.name):
        raise ArchiveRefused(f"{file.name!r} is not a file of the Hub's cache")
    if not SHA256.fullmatch(file.sha256) or file.size < 0 or not (file.blob == "" or BLOB.fullmatch(file.blob)):
        raise ArchiveRefused(f"{file.name!r} has no hash or no size in its manifest")
    if file.blob and (file.place != "hub" or "/snapshots/" not in file.name):
        raise ArchiveRefused(f"{file.name!r} cannot be a link")
    if len(file.blob) == 64 and file.blob != file.sha256:
        raise ArchiveRefused(f"{file.name!r} would have other contents in the Hub's cache")
