"""The mean over the groups of a data set, such as MMLU's subjects, besides the mean over its samples."""

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from msgspec.structs import replace

from shardmark.records.sample import Sample
from shardmark.records.score import Metric
from shardmark.scoring.statistics import estimate_mean, interval_of_mean

MACRO = " (macro)"
"The end of the label of a mean over groups."


def macro_estimates(
    metrics: dict[str, Metric],
    means: Collection[str],
    samples: Sequence[Sample],
    cluster_by: str | None = None,
    clusters: Sequence[str] | None = None,
) -> dict[str, Metric]:
    """The unweighted means over groups of the metrics in `means`, which average scores, as `NAME (macro)`.

    Empty if the samples have no groups. Each sample gets the score under that name, too. `clusters` replaces the
    clusters of the column `cluster_by`, and may span groups.
    """
    if any(sample.group is None for sample in samples):
        return {}
    found = {}
    for name, metric in metrics.items():
        if name not in means:
            continue
        groups: dict[str | None, list[tuple[Any, str]]] = defaultdict(list)
        for number, sample in enumerate(samples):
            cluster = str(number if cluster_by is None else sample.row[cluster_by])
            groups[sample.group].append((sample.scores[name], cluster))
            sample.scores[name + MACRO] = sample.scores[name]
        whole = list(groups.values())
        found[name + MACRO] = _across(metric, name, samples, clusters) if clusters else _macro(metric, whole)
    return found


def _across(metric: Metric, name: str, samples: Sequence[Sample], clusters: Sequence[str]) -> Metric:
    """The mean of groups' means for clusters that span groups.

    It is the plain mean of values in which each sample's distance from its group's mean is weighted by what the sample
    counts there, so that the error bar of a mean is that of the clusters.
    """
    scores: dict[str | None, list[Any]] = defaultdict(list)
    for sample in samples:
        scores[sample.group].append(sample.scores[name])
    of_groups = {group: math.fsum(own) / len(own) for group, own in scores.items()}
    value = math.fsum(of_groups.values()) / len(of_groups)
    share = len(samples) / len(of_groups)
    linear = [
        value + (float(sample.scores[name] or 0) - of_groups[sample.group]) * share / len(scores[sample.group])
        for sample in samples
    ]
    spread = estimate_mean(linear, clusters)
    ends = None
    if spread.ci95 and spread.interval == "t":
        ends = (max(0.0, spread.ci95[0]), min(1.0, spread.ci95[1])) if metric.percent else spread.ci95
    return replace(
        metric, value=value, stderr=spread.stderr, ci95=ends, interval="t" if ends else None, clusters=spread.clusters
    )


def reclustered(metrics: dict[str, Metric], samples: Sequence[Sample], clusters: Sequence[str]) -> dict[str, Metric]:
    """The metrics with error bars by clusters; those that are not means of the samples' scores get none."""
    found = {}
    for name, metric in metrics.items():
        scores = [sample.scores.get(name) for sample in samples]
        known = [score for score in scores if score is not None]
        estimate = estimate_mean(known, clusters) if len(known) == len(samples) else None
        if estimate and metric.value is not None and math.isclose(estimate.value, metric.value, abs_tol=1e-9):
            found[name] = estimate.metric(higher_is_better=metric.higher_is_better, percent=metric.percent)
        else:
            found[name] = replace(metric, stderr=None, ci95=None, interval=None, clusters=None)
    return found


def _macro(metric: Metric, groups: list[list[tuple[float, str]]]) -> Metric:
    """The mean of groups' means; its error is sqrt(sum of se^2) over their number, as groups share no cluster.

    Its interval is made from theirs.
    """
    estimates = [estimate_mean([s for s, _ in group], [cluster for _, cluster in group]) for group in groups]
    value = math.fsum(estimate.value for estimate in estimates) / len(groups)
    errors = [estimate.stderr for estimate in estimates if estimate.stderr is not None]
    known = [estimate.ci95 for estimate in estimates if estimate.ci95 is not None]
    ends = (
        interval_of_mean([e.value for e in estimates], known, [1.0] * len(known)) if len(known) == len(groups) else None
    )
    stderr = math.hypot(*errors) / len(groups) if len(errors) == len(groups) else None
    return replace(metric, value=value, stderr=stderr, ci95=ends, interval="combined" if ends else None)
