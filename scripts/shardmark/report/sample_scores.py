"""The scores of each sample, read without the other contents of a line of samples."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from shardmark.records.sample import read_sample

from .pair import Pair


class SampleScores(NamedTuple):
    """A pair's primary metric for each sample, in the order of the data set."""

    names: tuple[str, ...]
    scores: npt.NDArray[np.float64]
    clusters: tuple[str, ...] | None
    "The cluster of each sample, within which samples may depend on each other; None if there are none."


class Rows(NamedTuple):
    """The rows of a data set: a key for each sample, the same for equal rows, and the right answers."""

    keys: tuple[str, ...]
    names: tuple[str, ...]
    targets: tuple[bytes, ...]


class _Score(msgspec.Struct, gc=False):
    sample: str
    scores: dict[str, float | None]


class _ClusteredScore(msgspec.Struct, gc=False):
    sample: str
    scores: dict[str, float | None]
    row: dict[str, Any]


class _Row(msgspec.Struct, gc=False):
    sample: str
    row: msgspec.Raw
    target: msgspec.Raw = msgspec.Raw()


_SCORE = msgspec.json.Decoder(_Score).decode
_CLUSTERED_SCORE = msgspec.json.Decoder(_ClusteredScore).decode
_ROW = msgspec.json.Decoder(_Row).decode
LEAST = 8
"How many bytes of a row show whether it is empty."
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError)
"Errors from a damaged file; the code that shows the samples reports what is wrong with it."


def read_sample_scores(pair: Pair) -> SampleScores | None:
    """The scores that the primary metric is the mean of; None if it is not a mean, or the file cannot be read."""
    column = pair.scores.provenance.config.get("dataset", {}).get("cluster_by")
    value = pair.scores.main.value
    if pair.samples is None or value is None:
        return None
    try:
        found = list(_lines(pair.samples, _CLUSTERED_SCORE if column else _SCORE))
        names = tuple(each.sample for each in found)
        scores = [each.scores[pair.scores.primary] for each in found]
        clusters = tuple(str(each.row[column]) for each in found) if column else None
    except UNREADABLE:
        return None
    return whole_scores(value, names, scores, clusters)


def whole_scores(
    value: float | None, names: Sequence[str], scores: Sequence[float | None], clusters: Sequence[str] | None
) -> SampleScores | None:
    """Scores of samples as they can be compared; None unless `value` is the mean of one for each sample."""
    array = np.array(scores, dtype=float)  # None becomes NaN
    if value is None or not len(array) or np.isnan(array).any() or len(set(names)) < len(names):
        return None
    found = SampleScores(tuple(names), array, tuple(clusters) if clusters else None)
    return found if abs(array.mean() - value) <= 1e-9 else None


def read_rows(path: Path) -> Rows | None:
    """The rows of a file's samples; None if it cannot be read or does not have them.

    A row that comes twice has two keys.
    """
    seen: dict[bytes, int] = {}
    keys, names, targets = [], [], []
    found: set[bytes] = set()
    try:
        for each in _lines(path, _ROW):
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


def _lines(path: Path, decode: Callable[[bytes], Any]) -> Iterator[Any]:
    with path.open("rb") as lines:
        for line in lines:
            if line.strip():
                yield _decoded(line, decode)


def _decoded(line: bytes, decode: Callable[[bytes], Any]) -> Any:
    try:
        return decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):  # an infinite number or a surrogate, which the slow way reads
        sample = read_sample(line)
        row, target = (json.dumps(value, sort_keys=True).encode() for value in (sample.row, sample.target))
        if decode is _ROW:
            return _Row(sample.sample, msgspec.Raw(row), msgspec.Raw(target))
        return _ClusteredScore(sample.sample, sample.scores, sample.row)
