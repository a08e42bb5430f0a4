"""Several data sets as one: the mean of their primary metrics, with its error."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum, hypot
from typing import Any

from .inputs import Counts, DatasetInfo, Metric, Scores


@dataclass(frozen=True)
class Group:
    """Data sets that are reported as one, and what each counts: the same, by its samples, or by its weight."""

    name: str
    members: Sequence[str]
    mean: str = "macro"
    weights: Mapping[str, float] = field(default_factory=dict)
    description: str = ""


def group_scores(group: Group, scores: Sequence[Scores]) -> Scores:
    """The scores of one model on a group, from those on its members.

    There is no value if the members' metrics have no common unit or direction.
    """
    first, names = scores[0], sorted({one.primary for one in scores})
    metric = weighted_mean([one.main for one in scores], _weights(group, scores))
    name = f"{group.mean} {names[0] if len(names) == 1 else 'mean'}"
    made_of = repr([group.mean, sorted(group.weights.items()), [one.dataset.digest for one in scores]])
    info = DatasetInfo(
        name=group.name,
        digest=hashlib.sha256(made_of.encode()).hexdigest()[:16],
        description=group.description,
        kind="group",
        source=f"{group.mean} mean of {', '.join(one.dataset.name for one in scores)}",
        chance=_chance(group, scores),
    )
    counts = Counts(samples=sum(one.counts.samples for one in scores))
    return Scores(protocol=1, model=first.model, dataset=info, primary=name, metrics={name: metric}, counts=counts)


def _weights(group: Group, scores: Sequence[Scores]) -> list[float]:
    if group.mean == "micro":
        return [float(one.main.n) for one in scores]
    return [group.weights.get(one.dataset.name, 1.0) for one in scores]


def _chance(group: Group, scores: Sequence[Scores]) -> float | None:
    chances = [one.dataset.chance for one in scores if one.dataset.chance is not None]
    if len(chances) < len(scores):
        return None
    weights = _weights(group, scores)
    return fsum(w * c for w, c in zip(weights, chances, strict=True)) / fsum(weights) if fsum(weights) else None


def weighted_mean(metrics: Sequence[Metric], weights: Sequence[float]) -> Metric:
    """The weighted mean of independent estimates, with the standard error sqrt(sum of (w_i se_i)^2) / sum of w_i.

    The value is None if one of them has none, or if they differ in unit or direction.
    """
    kinds: set[Any] = {(metric.percent, metric.higher_is_better) for metric in metrics}
    (percent, higher), total = next(iter(kinds)), fsum(weights)
    facts = {"n": sum(metric.n for metric in metrics), "percent": percent, "higher_is_better": higher}
    values = [metric.value for metric in metrics if metric.value is not None]
    if len(kinds) > 1 or len(values) < len(metrics) or not total:
        return Metric(value=None, **facts)
    mean = fsum(weight * value for weight, value in zip(weights, values, strict=True)) / total
    errors = [metric.stderr for metric in metrics if metric.stderr is not None]
    if len(errors) < len(metrics):
        return Metric(value=mean, **facts)
    stderr = hypot(*(weight * error for weight, error in zip(weights, errors, strict=True))) / total
    return Metric(value=mean, stderr=stderr, **facts)
