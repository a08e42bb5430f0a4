"""Whether two models differ, from their scores of the same samples.

What one model finds hard, another often does too, so the difference of two models on the same samples is known better
than that of two independent estimates (E. Miller, "Adding error bars to evals", 2024). Where samples are not given,
or a metric is no mean of theirs, the estimates are taken to be independent, which is cautious.
"""

from collections.abc import Callable, Iterable, Sequence
from math import erfc, fsum, hypot, inf, isclose, sqrt
from pathlib import Path
from typing import NamedTuple

from shardmark.records.sample import read_sample
from shardmark.records.score import Metric
from shardmark.scoring.statistics import estimate_mean

from .results import Pair

LEVEL = 0.05
"Of all tests: no difference is told where chance alone would make a larger one more often than this."


class Difference(NamedTuple):
    """By how much one estimate is larger than another."""

    value: float
    stderr: float | None
    "None where it is not known."
    p: float
    "The two-sided p-value: how often chance alone makes a difference as large."


class SampleScores(NamedTuple):
    """A pair's primary metric for each sample, by the sample's name."""

    scores: dict[str, float]
    clusters: dict[str, str] | None
    "What samples may depend on each other, where the data set says so."


class Comparisons:
    """Differences of models; reads each file of samples once."""

    def __init__(self) -> None:
        self._read: dict[Path, SampleScores | None] = {}

    def alike(self, one: Pair, other: Pair) -> bool:
        """Whether no difference is found between two models on a data set."""
        return self.difference(one, other).p >= LEVEL

    def alike_on_average(self, pairs: Iterable[tuple[Pair, Pair]]) -> bool:
        """Whether no difference is found between two models' unweighted means over data sets."""
        return mean_difference([self.difference(*both) for both in pairs]).p >= LEVEL

    def difference(self, one: Pair, other: Pair) -> Difference:
        """The difference of two models on a data set."""
        here, there = self._scores(one), self._scores(other)
        if here and there and here.scores.keys() == there.scores.keys():
            return paired(here, there)
        return independent(one.scores.main, other.scores.main)

    def _scores(self, pair: Pair) -> SampleScores | None:
        if pair.samples is None:
            return None
        if pair.samples not in self._read:
            self._read[pair.samples] = _sample_scores(pair, pair.samples)
        return self._read[pair.samples]


def _sample_scores(pair: Pair, path: Path) -> SampleScores | None:
    """The scores that the primary metric is the mean of; None where it is no mean, or the file cannot be read."""
    column = pair.scores.provenance.config.get("dataset", {}).get("cluster_by")
    scores: dict[str, float] = {}
    clusters: dict[str, str] = {}
    try:
        with path.open("rb") as lines:
            for sample in map(read_sample, lines):
                score = sample.scores[pair.scores.primary]
                if sample.sample in scores or score is None:
                    return None
                scores[sample.sample] = score
                if column:
                    clusters[sample.sample] = str(sample.row[column])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # the pages of samples are made of the same file, and tell what is wrong with it
    value = pair.scores.main.value
    if not scores or value is None:
        return None
    mean = fsum(scores.values()) / len(scores)
    return SampleScores(scores, clusters if column else None) if isclose(mean, value, abs_tol=1e-9) else None


def paired(one: SampleScores, other: SampleScores) -> Difference:
    """The mean difference over samples that both have.

    Of scores that are right or wrong, the test is McNemar's exact one; else, and where samples come in clusters,
    Student's of the mean of the differences.
    """
    from scipy import special  # scipy.stats has the same under better names, and takes a second to import

    names = list(one.scores)
    differences = [one.scores[name] - other.scores[name] for name in names]
    clusters = [one.clusters[name] for name in names] if one.clusters else None
    found = estimate_mean(differences, clusters)
    if not clusters and {*one.scores.values(), *other.scores.values()} <= {0.0, 1.0}:
        better, unlike = sum(d > 0 for d in differences), sum(d != 0 for d in differences)
        p = min(1.0, 2 * float(special.bdtr(min(better, unlike - better), unlike, 0.5))) if unlike else 1.0
        return Difference(found.value, found.stderr, p)
    if found.stderr is None:
        return Difference(found.value, None, 1.0)
    units = found.clusters or found.n
    return _difference(found.value, found.stderr, lambda size: float(2 * special.stdtr(units - 1, -size)))


def independent(one: Metric, other: Metric) -> Difference:
    """The difference of two estimates, each of its own samples: Wald's test."""
    if one.value is None or other.value is None:
        return Difference(inf, None, 0.0)
    equal = isclose(one.value, other.value, rel_tol=1e-12, abs_tol=1e-15)
    known = one.stderr is not None and other.stderr is not None
    stderr = hypot(one.stderr or 0, other.stderr or 0) if known else None
    return _difference(0.0 if equal else one.value - other.value, stderr, _normal)


def mean_difference(differences: Sequence[Difference]) -> Difference:
    """The mean of differences on independent data sets."""
    mean = fsum(one.value for one in differences) / len(differences)
    errors = [one.stderr for one in differences if one.stderr is not None]
    stderr = hypot(*errors) / len(differences) if len(errors) == len(differences) else None
    return _difference(mean, stderr, _normal)


def _normal(size: float) -> float:
    return erfc(size / sqrt(2))


def _difference(value: float, stderr: float | None, p_of: Callable[[float], float]) -> Difference:
    """The difference with its p-value. Without an error only equal values are alike."""
    if not stderr:
        return Difference(value, stderr, 1.0 if isclose(value, 0, abs_tol=1e-15) else 0.0)
    return Difference(value, stderr, p_of(abs(value) / stderr))
