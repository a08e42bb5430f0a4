"""Versions of what makes scores: each is part of the digests of the scores that it decides, and of no other.

Raise a number when the same answers would get other scores; a change of names or comments leaves it as it is.
tests/unit/test_protocols.py fails when code changes and its number does not, and says how to go on.
"""

from collections.abc import Iterable

from shardmark.filters import FILTERS
from shardmark.metrics import METRICS

SCORING = 1
"How samples are made of answers, and means, errors and intervals of samples."
REPEATS = 1
"What becomes of several answers to a request, but for programs."
LM_EVAL = 1
"How tasks of lm-evaluation-harness are scored."
COSTS = 1
"What is taken for the time that work takes before any is measured: what was measured over another is forgotten."


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
