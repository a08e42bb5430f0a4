"""The files that the score step wrote, read, checked and made safe to show."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from shardmark.errors import Problem, UserError
from shardmark.files import SEAL, file_sha256, is_sealed
from shardmark.records.base import Unreadable, convert
from shardmark.records.gap import Gap
from shardmark.records.sample import Sample, read_sample, sample_of
from shardmark.records.score import SCORE_PROTOCOL, Scores
from shardmark.records.timings import Timings
from shardmark.tasks.extent import described

from .text import clean

ANEW = "delete the file and let the score step make it anew"
SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
UNSAFE = re.compile(rb"\\(?:[bfr]|u(?:00[01]|007[fF]|[dD][89a-fA-F]|[fF]{3}[eEfF]))")
"The escapes in JSON of what is cleaned."

R = TypeVar("R")


def read_scores(path: Path) -> Scores:
    """Read one score file, its limit in words; raise UserError if it is not one."""
    value = _read(path)
    protocol = value.get("protocol") if isinstance(value, dict) else None
    if isinstance(protocol, int) and protocol > SCORE_PROTOCOL:
        what = f"protocol {protocol}: written by a newer Shardmark (this one reads up to {SCORE_PROTOCOL})"
        raise UserError(Problem(str(path), "protocol", what, "report it with that version"))
    scores = _record(value, Scores, str(path))
    check_names(str(path), scores)
    limit = scores.dataset.limit
    in_words = limit if isinstance(limit, str) else described(limit)
    return replace(scores, dataset=replace(scores.dataset, limit=in_words))


def check_names(where: str, named: Scores | Gap) -> None:
    """Raise UserError for names that are no names of files, which the report makes of them."""
    for key, name in (("model.name", named.model.name), ("dataset.name", named.dataset.name)):
        if not SAFE_NAME.fullmatch(name):
            what = f"{name!r} is no safe file name: use A-Z a-z 0-9 _ - and, not first, ."
            raise UserError(Problem(where, key, what, ANEW))


def read_timings(path: Path) -> Timings:
    """Read how long a pair's inference took; raise UserError if it is not such a file."""
    return _record(_read(path), Timings, str(path))


def read_gap(value: object) -> Gap:
    """A model on a data set without scores, from its JSON; raise UserError if it is not one."""
    gap = _record(clean(value), Gap, "gaps")
    check_names("gaps", gap)
    return gap


def _read(path: Path) -> Any:
    """The JSON value in a file, cleaned and without its checksum. Raise UserError if that, if it has one, is wrong."""
    try:
        value = json.loads(path.read_text("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise UserError(Problem(str(path), "", f"not valid JSON: {error}", ANEW)) from error
    if isinstance(value, dict) and SEAL in value:
        if not is_sealed(value):
            raise UserError(Problem(str(path), SEAL, "damaged: its checksum is not that of its content", ANEW))
        del value[SEAL]
    return clean(value)


def _record(value: object, kind: type[R], where: str) -> R:
    try:
        return convert(value, kind)
    except Unreadable as error:
        raise UserError(Problem(where, "", str(error), ANEW)) from error


def read_samples(path: Path, expected: str | None = None) -> list[Sample]:
    """Read one file of scored samples, a JSON object a line; raise UserError with the line's number.

    `expected` is the SHA-256 that the file must have, where that is known.
    """
    if expected not in (None, file_sha256(path)):
        raise UserError(Problem(str(path), "", "damaged: it is not the file that its timings hash", ANEW))
    return list(_samples(path))


def _samples(path: Path) -> Iterator[Sample]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    yield read_sample(line) if _is_clean(line) else _cleaned(line)
            except Unreadable as error:
                raise UserError(Problem(f"{path}:{number}", "", str(error), ANEW)) from error


def _is_clean(line: bytes) -> bool:
    """Whether there is surely nothing to clean in a line of JSON."""
    return line.isascii() and b"\x7f" not in line and UNSAFE.search(line) is None


def _cleaned(line: bytes) -> Sample:
    try:
        return sample_of(clean(json.loads(line.decode("utf-8", "replace"))))
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, Unreadable) else Unreadable(f"not valid JSON: {error}") from error
