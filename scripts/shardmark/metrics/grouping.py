"""The mean over the groups of a data set, such as MMLU's subjects, beside the mean over its samples."""

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from shardmark.metrics.statistics import estimate_mean, interval_of_mean


def macro_estimates(
    metrics: dict[str, Any], means: Collection[str], samples: Sequence[dict[str, Any]], cluster_by: str | None = None
) -> dict[str, Any]:
    """Of each metric of `means`, those that are means of scores, the unweighted mean over groups, as `NAME (macro)`.

    Empty if the samples have no groups. Each sample gets the score under that name, too.
    """
    if not all("group" in sample for sample in samples):
        return {}
    found = {}
    for name, metric in metrics.items():
        if name not in means:
            continue
        groups: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for number, sample in enumerate(samples):
            cluster = str(number if cluster_by is None else sample["row"][cluster_by])
            groups[sample["group"]].append((sample["scores"][name], cluster))
            sample["scores"][f"{name} (macro)"] = sample["scores"][name]
        found[f"{name} (macro)"] = metric | _macro(list(groups.values()))
    return found


def _macro(groups: list[list[tuple[float, str]]]) -> dict[str, Any]:
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
    return {
        "value": value,
        "stderr": math.hypot(*errors) / len(groups) if len(errors) == len(groups) else None,
        "ci95": ends and list(ends),
        "interval": ends and "combined",
    }
