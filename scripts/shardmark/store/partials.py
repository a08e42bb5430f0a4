"""Partial files: what is known of a shard that is not finished, one prediction a line, in the order of arrival.

predictions/{model}/{dataset}/{shard}.{host}-{process}.partial. A line carries a digest of itself, so that one which was
cut off or damaged is known; and each process writes a file of its own, so that two of them, such as a job that
outlived its Snakemake and the one that replaces it, don't write into each other's lines.
"""

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shardmark.files import digest, json_line
from shardmark.records.base import parse, to_json
from shardmark.records.prediction import Prediction, prediction_of
from shardmark.store.predictions import ANSWERS

PARTIAL = ".partial"
CHECK = "check"
BY = "by"
"In a line, which version gave the answer: ANSWERS."


def partial_file(out: Path) -> Path:
    """Where this process keeps the answers for the prediction file `out`."""
    return out.with_name(f"{out.stem}.{socket.gethostname()}-{os.getpid()}{PARTIAL}")


def partial_files(out: Path) -> list[Path]:
    """Where any process left answers for the prediction file `out`."""
    return sorted(out.parent.glob(f"{out.stem}.*{PARTIAL}"))


def append_partial(out: Path, predictions: Iterable[Prediction]) -> None:
    """Keep answers for the prediction file `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(partial_file(out), "a", encoding="utf-8") as file:
        file.write("\n")  # what stands before may be half a line, of a full disk or of a dead process of this number
        marked = [to_json(prediction) | {BY: ANSWERS} for prediction in predictions]
        file.writelines(json_line(line | {CHECK: digest(line)}) for line in marked)


def read_partial(path: Path) -> list[Prediction]:
    """The predictions in the whole lines of a partial file; none if it is gone."""
    return [prediction for prediction, _ in _whole_lines(path)]


def oldest_version(path: Path) -> int:
    """The oldest version that gave answers of a partial file; this one if there are none."""
    return min((by if isinstance(by, int) else 1 for _, by in _whole_lines(path)), default=ANSWERS)


def _whole_lines(path: Path) -> list[tuple[Prediction, Any]]:
    """Each prediction, with the version that gave it where that is noted."""
    try:
        with open(path, "rb") as file:
            return [found for line in file if (found := _whole(line))]
    except FileNotFoundError:  # its job has just finished
        return []


def _whole(line: bytes) -> tuple[Prediction, Any] | None:
    try:
        value = parse(line)
        if value.pop(CHECK) != digest(value):
            return None
        by = value.pop(BY, None)
        return prediction_of(value), by
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
