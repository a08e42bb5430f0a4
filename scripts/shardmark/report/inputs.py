"""The files that the score step wrote, read, checked and made safe to show."""

import json
import re
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from shardmark.errors import Problem, UserError
from shardmark.files import SEAL, is_sealed
from shardmark.records.base import Unreadable, convert
from shardmark.records.certificate import Certificate
from shardmark.records.gap import Gap
from shardmark.records.score import SCORE_PROTOCOL, Scores
from shardmark.records.timings import Timings
from shardmark.tasks.extent import described

from .text import clean

ANEW = "delete the file; the next run scores again"
SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")

R = TypeVar("R")


def read_scores(path: Path) -> Scores:
    """Read one score file, with its limit in words; raise UserError if it is not one."""
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
    """Raise UserError for names that are not valid file names, which the report makes from them."""
    for key, name in (("model.name", named.model.name), ("dataset.name", named.dataset.name)):
        if not SAFE_NAME.fullmatch(name):
            what = f"{name!r} is not a safe file name: use A-Z a-z 0-9 _ - and, except at the start, ."
            raise UserError(Problem(where, key, what, ANEW))


def read_timings(path: Path) -> Timings:
    """Read the timings of a pair; raise UserError if the file is not one of timings."""
    return _record(_read(path), Timings, str(path))


def read_certificate(path: Path) -> Certificate:
    """Read a certificate; raise UserError if the file is not one."""
    return _record(_read(path), Certificate, str(path))


def read_gap(value: object) -> Gap:
    """Read a gap from its JSON; raise UserError if it is not one."""
    gap = _record(clean(value), Gap, "gaps")
    check_names("gaps", gap)
    return gap


def _read(path: Path) -> Any:
    """The JSON value in a file, cleaned and without its checksum. Raise UserError if the checksum is wrong."""
    try:
        value = json.loads(path.read_text("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise UserError(Problem(str(path), "", f"not valid JSON: {error}", ANEW)) from error
    if isinstance(value, dict) and SEAL in value:
        if not is_sealed(value):
            raise UserError(Problem(str(path), SEAL, "damaged: its checksum does not match its contents", ANEW))
        del value[SEAL]
    return clean(value)


def _record(value: object, kind: type[R], where: str) -> R:
    try:
        return convert(value, kind)
    except Unreadable as error:
        raise UserError(Problem(where, "", str(error), ANEW)) from error
