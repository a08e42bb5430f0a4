"""Request files: results/requests/{dataset}/{shard}.jsonl.

A line is `{"id": "<64 hexadecimal digits>", ...request}`; the id stands first, so that ids are read without parsing.
"""

from pathlib import Path
from typing import Any

from shardmark.errors import Problem, UserError
from shardmark.files import digest, read_jsonl
from shardmark.tasks import request_id

ID = slice(8, 72)
'Where the id is in a line: after `{"id": "`.'


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
