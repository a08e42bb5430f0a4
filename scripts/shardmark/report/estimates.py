"""Statistics of the leaderboard: the mean over data sets, and which results are marked."""

from collections.abc import Callable, Sequence
from functools import partial
from math import fsum
from typing import Any, Literal

from shardmark.records.score import Metric
from shardmark.scoring.statistics import combined_error, interval_of_mean

Z95 = 1.96  # two-sided 95 % quantile of the standard normal distribution

Standing = Literal["best", "tied", ""]


def interval(metric: Metric) -> tuple[float, float] | None:
    """The 95 % interval: the one given, else value ± 1.96 standard errors; None if unknown.

    An error of 0 does not make a score certain: all samples of a few may be right.
    """
    if metric.ci95 and metric.ci95[0] is not None and metric.ci95[1] is not None:
        return metric.ci95[0], metric.ci95[1]
    if metric.value is None or not metric.stderr:
        return None
    return metric.value - Z95 * metric.stderr, metric.value + Z95 * metric.stderr


def half_width(metric: Metric) -> float | None:
    """Half the width of the 95 % interval, in the metric's unit; None if unknown."""
    ends = interval(metric)
    return (ends[1] - ends[0]) / 2 if ends else None


def mean_metric(
    metrics: Sequence[Metric], weights: Sequence[float] | None = None, same: Sequence[str] | None = None
) -> Metric | None:
    """The mean of estimates of fractions, unweighted or as `weighted_mean`; None without estimates."""
    values = [metric.value for metric in metrics if metric.value is not None]
    whole = values and len(values) == len(metrics)
    return weighted_mean(metrics, weights or [1.0] * len(metrics), same) if whole else None


def weighted_mean(metrics: Sequence[Metric], weights: Sequence[float], same: Sequence[str] | None = None) -> Metric:
    """The weighted mean of independent estimates; those with equal names in `same` ask about the same rows.

    Its standard error is sqrt(sum of (w_i se_i)^2) / sum of w_i, or more if rows are the same (`combined_error`), and
    its interval is made from theirs; both are None if one of them is unknown. The value is None if one of them has
    none, or if they differ in unit or direction.
    """
    kinds = {(metric.percent, metric.higher_is_better) for metric in metrics}
    (percent, higher), total = next(iter(kinds)), fsum(weights)
    facts: Any = {"n": sum(metric.n for metric in metrics), "percent": percent, "higher_is_better": higher}
    values = [metric.value for metric in metrics if metric.value is not None]
    if len(kinds) > 1 or len(values) < len(metrics) or not total:
        return Metric(value=None, stderr=None, ci95=None, **facts)
    mean = fsum(weight * value for weight, value in zip(weights, values, strict=True)) / total
    errors = [metric.stderr for metric in metrics if metric.stderr is not None]
    spread = float(combined_error(errors, weights, same)) / total if len(errors) == len(metrics) else None
    ends = [found for metric in metrics if (found := interval(metric))]
    ci95 = interval_of_mean(values, ends, weights, same) if len(ends) == len(metrics) else None
    return Metric(value=mean, stderr=spread, ci95=ci95, **facts)


def standings(metrics: Sequence[Metric | None], alike: Callable[[int, int], bool]) -> list[Standing]:
    """Mark the best estimate (all of them on an exact tie) and those that cannot be distinguished from it.

    `alike` tells whether the estimates at two positions cannot be distinguished. Nothing is marked if fewer than two
    can be compared, or if all are equal: then none is best.
    """
    known = [metric for metric in metrics if metric is not None and metric.value is not None]
    if len({metric.value for metric in known}) < 2:
        return [""] * len(metrics)
    best = max(known, key=_merit)
    place = next(place for place, metric in enumerate(metrics) if metric is best)
    return [_standing(metric, best, partial(alike, place, own)) for own, metric in enumerate(metrics)]


def _merit(metric: Metric) -> float:
    value = metric.value if metric.value is not None else float("-inf")
    return value if metric.higher_is_better else -value


def _standing(metric: Metric | None, best: Metric, alike: Callable[[], bool]) -> Standing:
    if metric is None or metric.value is None:
        return ""
    if metric.value == best.value:
        return "best"
    return "tied" if alike() else ""
