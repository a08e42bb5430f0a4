"""Versions of the code that makes scores: each is part of the digests of the scores that it decides, and of no other.

Raise a number when the same answers would get other scores; renaming and comments leave it as it is.
tests/unit/test_protocols.py fails if code changes and its number does not, and says how to proceed.
"""

from collections.abc import Iterable

from shardmark.filters import FILTERS
from shardmark.metrics import METRICS

SCORING = 1
"The version of samples, and of means, errors and intervals over samples."
REPEATS = 2
"The version of how several answers to a request are combined, except for programs."
LM_EVAL = 3
"The version of how tasks of lm-evaluation-harness are scored."
COSTS = 2
"The version of estimated times before any is measured: times measured over another version are forgotten."


def scoring_protocols(metrics: Iterable[str], filters: Iterable[str], repeats: bool = False) -> dict[str, int]:
    """The versions that decide the scores of a data set with these metrics and filters.

    `repeats` is whether several answers to a request are judged.
    """
    return (
        {"scoring": SCORING}
        | ({"repeats": REPEATS} if repeats else {})
        | {f"metric {name}": METRICS[name].protocol for name in sorted(set(metrics))}
        | {f"filter {name}": FILTERS[name].protocol for name in sorted(set(filters))}
    )
