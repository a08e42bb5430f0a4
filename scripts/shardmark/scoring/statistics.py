"""Error bars: of means by formula, of anything else by resampling."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shardmark.records.score import Metric

CONFIDENCE = 0.95
CHUNK = 1000
"How many draws share a seed, as in lm-evaluation-harness."


@dataclass(frozen=True)
class Estimate:
    """A value computed from samples, with its uncertainty; fractions, not percent."""

    value: float
    stderr: float | None
    "For a mean: sample standard deviation (n - 1) over the root of n, as lm-evaluation-harness; None for one sample."
    ci95: tuple[float, float] | None
    "The 95% confidence interval."
    n: int
    interval: str | None = field(default=None, compare=False)
    "How the interval was computed: wilson, t or bootstrap."
    clusters: int | None = None
    "How many clusters the samples come in, if the error bar accounts for them."

    def metric(self, *, higher_is_better: bool, percent: bool) -> Metric:
        """The estimate for a score file. An interval with an end that is not finite becomes unknown.

        Those of shares are cut at 0 and 1: Student's reaches beyond for a few samples near them, as of pass^k.
        """
        ends = self.ci95 if self.ci95 and all(map(math.isfinite, self.ci95)) else None
        return Metric(
            value=self.value,
            stderr=self.stderr,
            ci95=(max(0.0, ends[0]), min(1.0, ends[1])) if ends and percent else ends,
            n=self.n,
            interval=self.interval,
            clusters=self.clusters,
            higher_is_better=higher_is_better,
            percent=percent,
        )


def estimate_mean(samples: Sequence[float], clusters: Sequence[str] | None = None) -> Estimate:
    """The mean of per-sample scores.

    Scores that are all 0 or 1 get Wilson's interval (E. B. Wilson, JASA 22, 1927), which remains valid near 0 and 1,
    where the standard error vanishes; others get Student's t interval. Samples of one cluster (by name) may depend on
    each other: the standard error is then that of E. Miller, "Adding error bars to evals" (2024), times the root of G /
    (G - 1) for G clusters, which makes it the usual one if each sample is a cluster; Wilson's interval is computed for
    as many samples as give this standard error, fewer for few clusters, which tell little about their own spread (E.
    Korn and B. Graubard, Survey Methodology 24, 1998), or for G if it vanishes. Raises ValueError without samples.
    """
    from scipy import special  # scipy.stats has the same under better names, but takes a second to import

    n = len(samples)
    if not n:
        raise ValueError("no samples to average")
    mean = math.fsum(samples) / n
    groups = n if clusters is None else len(set(clusters))
    sums = [x - mean for x in samples] if clusters is None else _sums_by([x - mean for x in samples], clusters)
    stderr = math.sqrt(math.fsum(x**2 for x in sums) * groups / (groups - 1)) / n if groups > 1 else None
    interval, how = None, None
    if all(x in (0.0, 1.0) for x in samples):
        count = float(n if clusters is None else _effective(mean, stderr, n, groups))
        interval, how = _wilson(mean, count, float(special.ndtri((1 + CONFIDENCE) / 2))), "wilson"
    elif stderr is not None:
        half = float(special.stdtrit(groups - 1, (1 + CONFIDENCE) / 2)) * stderr
        interval, how = (mean - half, mean + half), "t"
    return Estimate(mean, stderr, interval, n, how, None if clusters is None else groups)


def estimate_by_draws(
    terms: Sequence[Sequence[float]],
    value: Callable[[np.ndarray], float],
    draws: int,
    clusters: Sequence[str] | None = None,
) -> Estimate:
    """The value of the sum of all samples' terms, with an error bar from resampling.

    The standard error is the standard deviation over `draws` of as many samples (or whole clusters) with replacement,
    and the interval is between their 2.5% and 97.5% quantiles (Efron 1979). The draws are those of
    lm-evaluation-harness. Raises ValueError without samples.
    """
    n = len(terms)
    if not n:
        raise ValueError("no samples to draw from")
    table = np.asarray(terms, dtype=float)
    estimate = value(table.sum(axis=0))
    units = table if clusters is None else _sums_by(table, clusters)
    groups = None if clusters is None else len(units)
    if len(units) == 1:
        return Estimate(estimate, None, None, n, None, groups)
    values = [value(units[drawn].sum(axis=0)) for drawn in _drawn(len(units), draws)]
    return Estimate(estimate, *_spread(values), n, "bootstrap", groups)


def estimate_of_order(samples: Sequence[float], place: int, draws: int) -> Estimate:
    """The sample at a position in ascending order, from 0, with the error bar of estimate_by_draws."""
    ordered, n = np.sort(np.asarray(samples, dtype=float)), len(samples)
    if n == 1:
        return Estimate(float(ordered[place]), None, None, n)
    places = np.empty(n, dtype=np.intp)
    places[np.argsort(samples, kind="stable")] = np.arange(n)
    values = [float(ordered[np.partition(places[drawn], place)[place]]) for drawn in _drawn(n, draws)]
    return Estimate(float(ordered[place]), *_spread(values), n, "bootstrap")


def _spread(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The standard deviation of the values of draws, and their 2.5% and 97.5% quantiles."""
    with np.errstate(invalid="ignore"):  # values may be infinite
        low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return float(np.std(values, ddof=1)), (float(low), float(high))


def combined_error(errors: Sequence[Any], weights: Sequence[float], same: Sequence[Any] | None = None) -> Any:
    """The error of a weighted sum of estimates; of numbers or arrays.

    The squares of independent errors are added. Estimates with equal names in `same` may depend on each other, as two
    prompts' scores of the same rows do; their errors are added as they are, which is conservative.
    """
    sums: dict[Any, Any] = {}
    for error, weight, name in zip(errors, weights, same or range(len(weights)), strict=True):
        sums[name] = sums.get(name, 0.0) + weight * error
    return np.sqrt(sum(value**2 for value in sums.values()))


def interval_of_mean(
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    weights: Sequence[float],
    same: Sequence[Any] | None = None,
) -> tuple[float, float]:
    """The interval of a weighted mean of independent estimates, from their own intervals (`same`: combined_error).

    Each end is as far from the mean as the root of the sum of the squared weighted distances of theirs (G. Zou and A.
    Donner, Statistics in Medicine 27, 2008). So a mean of shares that are all 1 is as uncertain as these are, although
    no standard error shows it.
    """
    total = math.fsum(weights)
    mean = math.fsum(w * v for w, v in zip(weights, values, strict=True)) / total
    down = combined_error([v - low for v, (low, _) in zip(values, intervals, strict=True)], weights, same) / total
    up = combined_error([high - v for v, (_, high) in zip(values, intervals, strict=True)], weights, same) / total
    return float(mean - down), float(mean + up)


def _drawn(n: int, draws: int) -> Any:
    """Indices of n samples drawn from n, the same as by Python's random.Random(k).choices."""
    for start in range(0, draws, CHUNK):
        random = np.random.RandomState([start // CHUNK])
        for _ in range(min(CHUNK, draws - start)):
            yield (random.random_sample(n) * n).astype(np.intp)


def _sums_by(values: Sequence[float] | np.ndarray, clusters: Sequence[str]) -> np.ndarray:
    """The sum of each cluster's values, in the order of their first samples."""
    place = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    table = np.asarray(values, dtype=float)
    sums = np.zeros((len(place), *table.shape[1:]))
    np.add.at(sums, [place[name] for name in clusters], table)
    return sums


def _effective(mean: float, stderr: float | None, n: int, clusters: int) -> float:
    """How many independent samples of 0 or 1 would be as informative as n with this standard error, from `clusters`."""
    if not stderr:
        return clusters
    from scipy import special

    known = [float(special.stdtrit(units - 1, (1 + CONFIDENCE) / 2)) for units in (n, clusters)]
    return (mean * (1 - mean) / stderr**2 + 1) * (known[0] / known[1]) ** 2


def _wilson(mean: float, n: float, z: float) -> tuple[float, float]:
    centre = (mean + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(mean * (1 - mean) / n + z**2 / (4 * n**2))
    return 0.0 if mean == 0 else max(0.0, centre - half), 1.0 if mean == 1 else min(1.0, centre + half)
