"""Task files: results/tasks/{dataset}@{digest}.jsonl, a sealed header, then a line for each sample."""

import hashlib
import json
from pathlib import Path

from shardmark.errors import Problem, UserError
from shardmark.files import SEAL, is_sealed
from shardmark.records.base import MADE_ANEW, Unreadable, convert, decode
from shardmark.records.dataset import TaskHeader, TaskLine


def read_header(task: Path) -> TaskHeader | None:
    """The first line of a task file, which describes its data set; None if it is damaged or missing."""
    try:
        with open(task, "rb") as file:
            return _header(file.readline())
    except (OSError, ValueError, RecursionError):
        return None


def read_task(task: Path) -> tuple[TaskHeader, list[TaskLine]]:
    """The header and the samples of a task file. Raises UserError if it is damaged."""
    hashed = hashlib.sha256()
    lines = []
    try:
        with open(task, "rb") as file:
            header = _header(file.readline())
            for line in file:
                hashed.update(line)
                lines.append(decode(line, TaskLine))
    except (ValueError, RecursionError) as error:
        raise _damaged(task, str(error)) from error
    if header.samples_sha256 != hashed.hexdigest():
        raise _damaged(task, "its samples do not match the hash in its first line")
    return header, lines


def _header(line: bytes) -> TaskHeader:
    """The header in a line. Raises ValueError, which Unreadable is a kind of."""
    value = json.loads(line)
    if not is_sealed(value):
        raise Unreadable("its first line is not that of a task file, or has changed")
    return convert({key: part for key, part in value.items() if key != SEAL}, TaskHeader)


def _damaged(task: Path, why: str) -> UserError:
    return UserError(Problem(str(task), "", f"it is damaged: {why}", MADE_ANEW))
