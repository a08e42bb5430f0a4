"""Request files: results/requests/{dataset}/{shard}.jsonl.

A line is `{"id": "<64 hexadecimal digits>", ...request}`; the id stands first, so that ids are read without parsing.
"""

from pathlib import Path

from shardmark.errors import Problem, UserError
from shardmark.files import digest, sha256
from shardmark.records.base import convert, parse
from shardmark.records.request import KINDS, Request

ID = slice(8, 72)
'The position of the id in a line: after `{"id": "`.'


def read_requests(path: Path) -> dict[str, Request]:
    """The requests of a shard by id. Raises UserError if one does not match its id, or if they are not this shard's."""
    try:
        with open(path, "rb") as file:
            lines = [_read(line) for line in file]
        whole = digest([key for key, _ in lines]) == path.stem
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise UserError(Problem(str(path), "", "the request file is damaged", "delete it; the next run recreates it"))
    return dict(lines)


def _read(line: bytes) -> tuple[str, Request]:
    """The request in a line, with its id. Raises ValueError, among others, if they do not match."""
    value = parse(line)
    key = value.pop("id")
    if sha256(value) != key:
        raise ValueError("its id does not match its contents")
    return key, convert(value, KINDS[value["kind"]])


def ids_in(path: Path) -> list[str]:
    """The ids of the lines of a request or prediction file that have one, without parsing them."""
    with open(path, "rb") as file:
        return [line[ID].decode("ascii", "replace") for line in file if line.startswith(b'{"id": "')]
