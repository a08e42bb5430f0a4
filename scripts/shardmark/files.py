"""Write whole files only: beside their place, fsynced, renamed. And digests of contents.

A reader therefore never sees half a file under a final name. The fsync before the rename makes this hold after a power
cut as well: without it, a file system may rename first and lose the data.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

DIGEST_LENGTH = 16
"Hexadecimal digits of a digest in a path: 64 bits, enough for billions of shards."

SEAL = "sha256"
"The key of a JSON object's checksum of the rest of it."

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)
_LINE = json.JSONEncoder(ensure_ascii=True, separators=(", ", ": "))


def canonical_json(value: object) -> str:
    """The canonical JSON text of a value: sorted keys, no spaces, ASCII (so that lone surrogates survive)."""
    return _CANONICAL.encode(value)


def sha256(value: object) -> str:
    """Full SHA-256 of a value's canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest(value: object) -> str:
    """Short SHA-256 of a value's canonical JSON, for use in paths."""
    return sha256(value)[:DIGEST_LENGTH]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which appears in its place when the block succeeds: whole or absent, even after a crash.

    A device or a pipe such as /dev/stdout is written to, never replaced.
    """
    if path.exists() and not path.is_file():
        with open(path, "wb") as file:
            yield file
        return
    import tempfile  # here: it is slow to import, and a job whose worker answers writes no file itself

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it is either whole or absent, even after a crash."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def umask() -> int:
    """The permissions that new files of this process do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_if_changed(path: Path, content: str | bytes) -> None:
    """Write a file unless it already has this content, in which case it stays untouched, modification time included."""
    data = content.encode() if isinstance(content, str) else content
    if not (path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data):
        write_whole(path, data)


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """The value with its own checksum as the last key, so that a change to its file shows."""
    return {**value, SEAL: sha256(value)}


def is_sealed(value: object) -> bool:
    """Whether a value has not changed since it was sealed."""
    if not isinstance(value, dict):
        return False
    return value.get(SEAL) == sha256({key: part for key, part in value.items() if key != SEAL})


def pretty_json(value: object) -> str:
    """JSON for people: indented, keys in the given order, final newline."""
    return json.dumps(value, indent=2, ensure_ascii=True) + "\n"


def json_line(value: object) -> str:
    """One line of a JSON-lines file, keys in the given order."""
    return _LINE.encode(value) + "\n"


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(path.read_bytes())


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file that can be made again; an empty one if it is missing or damaged."""
    try:
        found = read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_sealed(path: Path) -> dict[str, Any]:
    """The object in a sealed file, without its checksum; empty if it is missing or damaged."""
    found = read_object(path)
    return {key: part for key, part in found.items() if key != SEAL} if is_sealed(found) else {}


def read_jsonl(path: Path) -> Iterator[Any]:
    """The values of a JSON-lines file that Shardmark itself wrote."""
    with open(path, "rb") as file:
        for line in file:
            yield json.loads(line)


def jsonl(values: Iterable[Any]) -> str:
    """The text of a JSON-lines file."""
    return "".join(map(json_line, values))
