"""The scores of lm-eval's groups, from those of their tasks."""

import math
from typing import Any, NamedTuple

from shardmark.errors import Problem, UserError
from shardmark.records.dataset import LmEvalGroup
from shardmark.records.score import Metric
from shardmark.scoring.statistics import interval_of_mean


class Aggregate(NamedTuple):
    """An entry of a group's aggregate_metric_list; its aggregation is the mean."""

    metric: str
    filter_list: str | list[str] | None = None
    aggregation: Any = "mean"
    weight_by_size: bool = True


def group_metrics(groups: list[LmEvalGroup], tasks: dict[str, dict[str, Metric]]) -> dict[str, Metric]:
    """The aggregates of a group, then those of its subgroups and the metrics of its tasks, with their names."""
    found: dict[str, Metric] = {}
    for group in groups:
        aggregates = [Aggregate(**entry) for entry in group.aggregates]
        for aggregate in aggregates:
            names = [name for name in dict.fromkeys(n for t in group.tasks for n in tasks[t]) if _fits(name, aggregate)]
            for name in names:
                key = name if group is groups[0] else f"{name} ({group.name})"
                having = [tasks[task] for task in group.tasks if name in tasks[task]]
                sizes = [max(metric.n for metric in metrics.values()) for metrics in having]
                parts = [metrics[name] for metrics in having]
                found[key] = _aggregate(parts, sizes, aggregate.weight_by_size)
        if not found:  # lm-eval warns, and the group has no score
            wanted = ", ".join(dict.fromkeys(aggregate.metric for aggregate in aggregates))
            what = f"group {group.name} aggregates {wanted}, which none of its tasks has"
            raise UserError(Problem(group.name, "aggregate_metric_list", what, "correct the group's file"))
    return found | {f"{name} ({task})": metric for task, metrics in tasks.items() for name, metric in metrics.items()}


def _fits(name: str, aggregate: Aggregate) -> bool:
    """Whether a group aggregates a task's metric: with all its chains of filters, or those that the group names."""
    metric, _, chain = name.partition(",")
    wanted = aggregate.filter_list
    wanted = [wanted] if isinstance(wanted, str) else wanted
    return bool(metric == aggregate.metric and (wanted is None or (chain or "none") in wanted))


def _aggregate(parts: list[Metric], sizes: list[int], by_size: bool) -> Metric:
    """lm-eval's mean over tasks with its standard error: pooled if tasks weigh by size, else of a plain mean.

    `sizes` are the tasks' numbers of documents; a metric may have values for fewer, and still has the same weight. The
    interval is made from those of the tasks, where these are known.
    """
    weights = sizes if by_size else [1] * len(parts)
    value = sum(
        (math.nan if part.value is None else part.value) * weight for part, weight in zip(parts, weights, strict=True)
    ) / sum(weights)
    errors = [part.stderr for part in parts if part.stderr is not None]
    stderr = None
    if len(errors) == len(parts) and by_size and sum(sizes) > len(sizes):
        squares = sum((n - 1) * error**2 * n for n, error in zip(sizes, errors, strict=True))
        stderr = math.sqrt(squares / (sum(sizes) - len(sizes)) / sum(sizes))
    elif len(errors) == len(parts) and not by_size:
        stderr = math.sqrt(sum(error**2 for error in errors)) / len(errors)
    half = None if stderr is None else 1.959963984540054 * stderr
    ends = None if half is None else (value - half, value + half)
    values = [part.value for part in parts if part.value is not None]
    intervals = [part.ci95 or (None, None) for part in parts]
    known = [(low, high) for low, high in intervals if low is not None and high is not None]
    if len(values) == len(known) == len(parts):
        ends = interval_of_mean(values, known, weights)
    return Metric(
        value=value,
        stderr=stderr,
        ci95=ends,
        n=sum(sizes),
        higher_is_better=parts[0].higher_is_better,
        percent=all(part.percent for part in parts),
    )
