"""Partial files: the answers of an unfinished shard so far, one prediction a line, in the order of arrival.

predictions/{model}/{dataset}/{shard}.{host}-{process}.partial. Each line carries its own digest, so that a truncated or
damaged one is recognized. Each process writes its own file, so that two of them, such as a job that outlived its
Snakemake and the one that replaces it, don't write into each other's lines. Lines of parts of answers begin with
another key, so that readers and counters of answers skip them.
"""

import os
import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from shardmark.files import digest, json_line
from shardmark.records.base import Unreadable, convert, parse, to_json
from shardmark.records.prediction import Part, Prediction, prediction_of
from shardmark.records.shared import Taken, distinct
from shardmark.store.predictions import ANSWERS

PARTIAL = ".partial"
CHECK = "check"
PART = "part"
BY = "by"
"In a line, the version that gave the answer: ANSWERS."
TAKEN = "taken"
"In a line from a shared store, who may have computed it."


def partial_file(out: Path) -> Path:
    """The file in which this process keeps answers for the prediction file `out`."""
    return out.with_name(f"{out.stem}.{socket.gethostname()}-{os.getpid()}{PARTIAL}")


def partial_files(out: Path) -> list[Path]:
    """The files in which any process left answers for the prediction file `out`."""
    return sorted(out.parent.glob(f"{out.stem}.*{PARTIAL}"))


def append_partial(out: Path, predictions: Iterable[Prediction | Part], taken: Collection[Taken] = ()) -> None:
    """Keep answers for the prediction file `out`; `taken` is their source if they came from a shared store."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(partial_file(out), "a", encoding="utf-8") as file:
        file.write("\n")  # the text before may be half a line, after a full disk or from a dead process of this number
        more = {BY: ANSWERS} | ({TAKEN: to_json(list(taken))} if taken else {})
        marked = [to_json(prediction) | more for prediction in predictions]
        file.writelines(json_line(line | {CHECK: digest(line)}) for line in marked)


def read_partial(path: Path) -> list[Prediction]:
    """The predictions in the intact lines of a partial file; none if it is gone."""
    return [prediction for prediction, _, _ in _whole_lines(path)]


def taken_in(paths: Iterable[Path], wanted: Collection[str]) -> list[Taken]:
    """The sources of the partial files' answers to wanted requests that came from a shared store."""
    lines = (line for path in paths for line in _whole_lines(path))
    return distinct(each for prediction, _, taken in lines if prediction.id in wanted for each in taken)


def oldest_version(path: Path) -> int:
    """The oldest version that gave answers in a partial file; the current one if there are none."""
    return min((by if isinstance(by, int) else 1 for _, by, _ in _whole_lines(path)), default=ANSWERS)


def _whole_lines(path: Path) -> list[tuple[Prediction, Any, list[Taken]]]:
    """Each prediction with the version that gave it, if noted, and its sources, if it came from a shared store."""
    return [found for value in _intact(path) if (found := _whole(value))]


def _intact(path: Path) -> Iterator[dict[str, Any]]:
    """The values of the undamaged lines."""
    try:
        with open(path, "rb") as file:
            for line in file:
                try:
                    value = parse(line)
                    intact = value.pop(CHECK) == digest(value)
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                    continue
                if intact:
                    yield value
    except FileNotFoundError:  # its job has just finished
        return


def _whole(value: dict[str, Any]) -> tuple[Prediction, Any, list[Taken]] | None:
    try:
        by, taken = value.pop(BY, None), convert(value.pop(TAKEN, []), list[Taken])
        return prediction_of(value), by, taken
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


class PartialStore:
    """The kept answers of an unfinished shard."""

    def __init__(self, out: Path) -> None:
        """`out` is the shard's prediction file."""
        self._out = out

    def append(self, answers: list[Prediction | Part]) -> None:
        """Keep answers and parts of answers."""
        if answers:
            append_partial(self._out, answers)

    def parts(self) -> list[Part]:
        """All parts that any process of this version has kept."""
        found = []
        for path in partial_files(self._out):
            for value in _intact(path):
                with suppress(Unreadable):
                    if value.pop(BY, None) == ANSWERS and PART in value:
                        found.append(convert(value, Part))
        return found
