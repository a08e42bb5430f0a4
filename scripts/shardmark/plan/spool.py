"""Writing the requests of a data set into request files, which store/requests.py reads."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from shardmark.files import write_if_changed
from shardmark.plan.cost import request_tokens
from shardmark.plan.shards import Placed, Shard, keys, prefix_key
from shardmark.records.request import Request
from shardmark.tasks.requests import request_line


class Spool:
    """All requests of a data set on disk, each once, until their division is known. There may be millions."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._size = 0
        self._found: list[tuple[str, int, int, int, int]] = []
        self._prefixes: list[int | None] = []
        self._ids: set[str] = set()

    def add(self, request_id: str, request: Request, head: int) -> None:
        """Add a request if it is new; all requests share the first `head` characters of its prompt."""
        if request_id in self._ids:
            return
        self._ids.add(request_id)
        line = request_line(request_id, request)
        self._found.append((request_id, *request_tokens(request, head), self._size, len(line)))
        self._prefixes.append(prefix_key(request, head))
        self._size += self._file.write(line)

    def placed(self) -> list[Placed]:
        """Every request with its place."""
        places = keys([name for name, *_ in self._found], self._prefixes)
        return [Placed(name, key, *rest) for (name, *rest), key in zip(self._found, places, strict=True)]

    def write(self, folder: Path, shards: Iterable[Shard]) -> None:
        """Write the request files of shards."""
        self._file.flush()
        for shard in shards:
            lines = (os.pread(self._file.fileno(), request.length, request.offset) for request in shard.requests)
            write_if_changed(folder / f"{shard.name}.jsonl", b"".join(lines))

    def close(self) -> None:
        """Release the disk space."""
        self._file.close()
