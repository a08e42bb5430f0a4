"""The mean over the groups of a data set, such as MMLU's subjects, beside the mean over its samples."""

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from msgspec.structs import replace

from shardmark.records.sample import Sample
from shardmark.records.score import Metric
from shardmark.scoring.statistics import estimate_mean, interval_of_mean


def macro_estimates(
    metrics: dict[str, Metric], means: Collection[str], samples: Sequence[Sample], cluster_by: str | None = None
) -> dict[str, Metric]:
    """Of each metric of `means`, those that are means of scores, the unweighted mean over groups, as `NAME (macro)`.

    Empty if the samples have no groups. Each sample gets the score under that name, too.
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
            sample.scores[f"{name} (macro)"] = sample.scores[name]
        found[f"{name} (macro)"] = _macro(metric, list(groups.values()))
    return found


def _macro(metric: Metric, groups: list[list[tuple[float, str]]]) -> Metric:
    """The mean of groups' means; its error is sqrt(sum of se^2) over their number, as groups share no cluster.

    Its interval is made of theirs.
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
