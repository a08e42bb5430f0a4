"""The scores of each sample, read without the other contents of a line of samples."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from shardmark.errors import Problem, UserError
from shardmark.records.base import Unreadable
from shardmark.records.sample import read_sample
from shardmark.records.score import Scores
from shardmark.scoring.grouping import MACRO

from .inputs import ANEW
from .pair import Pair


class SampleScores(NamedTuple):
    """A pair's primary metric for each sample, in the order of the data set."""

    names: tuple[str, ...]
    scores: npt.NDArray[np.float64]
    clusters: tuple[str, ...] | None
    "The cluster of each sample, within which samples may depend on each other; None if there are none."
    groups: npt.NDArray[np.str_] | None = None
    "The group of each sample, if the metric is a mean over groups."

    def at(self, places: Sequence[int] | slice = slice(None)) -> npt.NDArray[np.float64]:
        """The scores of some samples, weighted so that their mean is that of their groups' means if that is wanted."""
        found = self.scores[places]
        if self.groups is None:
            return found
        own, sizes = np.unique(self.groups[places], return_inverse=True, return_counts=True)[1:]
        return found * (len(own) / (len(sizes) * sizes[own]))


class Rows(NamedTuple):
    """The rows of a data set: a key for each sample, the same for equal rows, and the right answers."""

    keys: tuple[str, ...]
    names: tuple[str, ...]
    targets: tuple[bytes, ...]


class Scored(msgspec.Struct, gc=False):
    """The scores of a sample."""

    sample: str
    scores: dict[str, float | None]
    group: str | None = None


class _Clustered(Scored, kw_only=True, gc=False):
    row: dict[str, Any]


class _Row(msgspec.Struct, gc=False):
    sample: str
    row: msgspec.Raw
    target: msgspec.Raw = msgspec.Raw()


_SCORED = msgspec.json.Decoder(Scored).decode
_CLUSTERED = msgspec.json.Decoder(_Clustered).decode
_ROW = msgspec.json.Decoder(_Row).decode
LEAST = 8
"How many bytes of a row show whether it is empty."
UNREADABLE = (UserError, OSError, ValueError, LookupError, TypeError, AttributeError)
"Errors from a damaged file; the code that shows the samples reports what is wrong with it."


def read_sample_scores(pair: Pair) -> SampleScores | None:
    """The scores that the primary metric is the mean of; None if it is not a mean, or the file cannot be read."""
    try:
        return sample_scores(pair, list(read_scored(pair)))
    except UNREADABLE:
        return None


def read_scored(pair: Pair) -> Iterator[Scored]:
    """The scores of a pair's samples, for `sample_scores`. Raises UserError for a damaged line."""
    return read_lines(pair.samples, _CLUSTERED if _cluster_column(pair) else _SCORED) if pair.samples else iter(())


def sample_scores(pair: Pair, samples: Sequence[Scored]) -> SampleScores | None:
    """Those scores as they can be compared; None if the primary metric is not their mean."""
    column, names = _cluster_column(pair), [each.sample for each in samples]
    try:
        scores = [each.scores[pair.scores.primary] for each in samples]
        clusters = [str(each.row[column]) for each in samples if isinstance(each, _Clustered)] if column else None
    except UNREADABLE:
        return None
    return whole_scores(pair.scores, names, scores, clusters or (), [each.group for each in samples])


def _cluster_column(pair: Pair) -> str | None:
    return pair.scores.provenance.config.get("dataset", {}).get("cluster_by") or None


def whole_scores(
    pair: Scores,
    names: Sequence[str],
    scores: Sequence[float | None],
    clusters: Sequence[str] = (),
    groups: Sequence[str | None] = (),
) -> SampleScores | None:
    """Scores of samples as they can be compared; None unless the primary metric is the mean of one for each sample.

    It may also be the mean over their groups, such as subjects.
    """
    array, value = np.array(scores, dtype=float), pair.main.value  # None becomes NaN
    if value is None or not len(array) or np.isnan(array).any() or len(set(names)) < len(names):
        return None
    is_macro = pair.primary.endswith(MACRO) and bool(groups) and None not in groups
    found = SampleScores(tuple(names), array, tuple(clusters) or None, np.array(groups, str) if is_macro else None)
    return found if math.isclose(found.at().mean(), value, abs_tol=1e-9) else None


def read_rows(path: Path) -> Rows | None:
    """The rows of a file's samples; None if it cannot be read or does not have them.

    A row that comes twice has two keys.
    """
    seen: dict[bytes, int] = {}
    keys, names, targets = [], [], []
    found: set[bytes] = set()
    try:
        for each in read_lines(path, _ROW):
            found.add(bytes(each.row)[:LEAST])
            digest = hashlib.blake2b(bytes(each.row), digest_size=8).digest()
            seen[digest] = seen.get(digest, 0) + 1
            keys.append(f"{digest.hex()}-{seen[digest]}")
            names.append(each.sample)
            targets.append(bytes(each.target))
    except UNREADABLE:
        return None
    told = any(row not in (b"null", b"{}") for row in found)
    return Rows(tuple(keys), tuple(names), tuple(targets)) if told else None


def read_lines(path: Path, decode: Callable[[bytes], Any]) -> Iterator[Any]:
    """What `decode` makes of each line. Raises UserError with the number of a damaged one."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if not line.isspace():
                    yield _decoded(line, decode)
            except Unreadable as error:
                raise UserError(Problem(f"{path}:{number}", "", str(error), ANEW)) from error


def _decoded(line: bytes, decode: Callable[[bytes], Any]) -> Any:
    try:
        return decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):  # an infinite number or a surrogate, which the slow way reads
        sample = read_sample(line)
        row, target = (json.dumps(value, sort_keys=True).encode() for value in (sample.row, sample.target))
        if decode is _ROW:
            return _Row(sample.sample, msgspec.Raw(row), msgspec.Raw(target))
        return _Clustered(sample.sample, sample.scores, sample.group, row=sample.row)
