"""Request files: results/requests/{dataset}/{shard}.jsonl, and how requests get into them.

A line is `{"id": "<64 hexadecimal digits>", ...request}`; the id stands first, so that ids are read without parsing.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from shardmark.errors import Problem, UserError
from shardmark.files import digest, json_line, read_jsonl, write_if_changed
from shardmark.plan.cost import request_tokens
from shardmark.plan.shards import Placed, Shard, keys, prefix_key
from shardmark.tasks import request_id

ID = slice(8, 72)
'Where the id is in a line: after `{"id": "`.'


class Spool:
    """All requests of a data set on disk, each once, until it is known how they are divided. There may be millions."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._size, self._read = 0, False
        self._found: list[tuple[str, int, int, int, int]] = []
        self._prefixes: list[int | None] = []
        self._ids: set[str] = set()

    def add(self, request_id: str, request: Any, head: int) -> None:
        """Keep a request, unless it is there already; the first `head` characters of its prompt all requests share."""
        if request_id in self._ids:
            return
        self._ids.add(request_id)
        line = json_line({"id": request_id, **request}).encode()
        self._found.append((request_id, *request_tokens(request, head), self._size, len(line)))
        self._prefixes.append(prefix_key(request, head))
        if self._read:
            self._file.seek(self._size)
            self._read = False
        self._size += self._file.write(line)

    def placed(self) -> list[Placed]:
        """Every request with its place."""
        places = keys([name for name, *_ in self._found], self._prefixes)
        return [Placed(name, key, *rest) for (name, *rest), key in zip(self._found, places, strict=True)]

    def write(self, folder: Path, shards: Iterable[Shard]) -> None:
        """Write the request files of shards."""
        for shard in shards:
            write_if_changed(folder / f"{shard.name}.jsonl", b"".join(map(self._line, shard.requests)))

    def _line(self, request: Placed) -> bytes:
        self._read = True
        self._file.seek(request.offset)
        return self._file.read(request.length)

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()


def read_requests(path: Path) -> dict[str, Any]:
    """The requests of a shard by id. Raises UserError if one is not what its id says, or if they are not this shard."""
    try:
        lines = [(line.pop("id"), line) for line in read_jsonl(path)]
        whole = digest([key for key, _ in lines]) == path.stem and all(request_id(line) == key for key, line in lines)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise UserError(Problem(str(path), "", "the request file is damaged", "delete it; the next run makes it anew"))
    return dict(lines)


def ids_in(path: Path) -> list[str]:
    """The ids of the lines of a request or prediction file that have one, without parsing them."""
    with open(path, "rb") as file:
        return [line[ID].decode("ascii", "replace") for line in file if line.startswith(b'{"id": "')]
