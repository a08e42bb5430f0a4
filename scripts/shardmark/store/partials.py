"""Partial files: what is known of a shard that is not finished, one prediction a line, in the order of arrival.

predictions/{model}/{dataset}/{shard}.{host}-{process}.partial. A line carries a digest of itself, so that one which was
cut off or damaged is known; and each process writes a file of its own, so that two of them, such as a job that
outlived its Snakemake and the one that replaces it, don't write into each other's lines.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from shardmark.files import digest, json_line
from shardmark.records.base import parse
from shardmark.store.predictions import ANSWERS

PARTIAL = ".partial"
CHECK = "check"
BY = "by"
"In a line, which version gave the answer: ANSWERS."
Record = dict[str, Any]


def partial_file(out: Path) -> Path:
    """Where this process keeps the answers for the prediction file `out`."""
    return out.with_name(f"{out.stem}.{socket.gethostname()}-{os.getpid()}{PARTIAL}")


def partial_files(out: Path) -> list[Path]:
    """Where any process left answers for the prediction file `out`."""
    return sorted(out.parent.glob(f"{out.stem}.*{PARTIAL}"))


def append_partial(out: Path, predictions: list[Record]) -> None:
    """Keep answers for the prediction file `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(partial_file(out), "a", encoding="utf-8") as file:
        file.write("\n")  # what stands before may be half a line, of a full disk or of a dead process of this number
        marked = [prediction | {BY: ANSWERS} for prediction in predictions]
        file.writelines(json_line(prediction | {CHECK: digest(prediction)}) for prediction in marked)


def read_partial(path: Path) -> list[Record]:
    """The whole lines of a partial file; none if it is gone."""
    try:
        with open(path, "rb") as file:
            return [prediction for line in file if (prediction := _whole(line))]
    except FileNotFoundError:  # its job has just finished
        return []


def _whole(line: bytes) -> Record | None:
    try:
        prediction = parse(line)
        check = prediction.pop(CHECK)
        whole = check == digest(prediction)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return {key: value for key, value in prediction.items() if key != BY} if whole else None


def is_marked(path: Path) -> bool:
    """Whether this version gave all answers of a partial file."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        lines = [line for line in file if _whole(line)]
        return all(parse(line).get(BY) == ANSWERS for line in lines)
    return True
