"""From a model's outputs to its answers, by the filters of a data set in order."""

from collections.abc import Mapping, Sequence
from typing import Any

from shardmark.filters.base import Answers, Filter
from shardmark.untrusted.limits import bounded


def filter_steps(
    texts: Sequence[str | None],
    filters: Sequence[Filter],
    row: Mapping[str, Any],
    key: str = "filters",
    *,
    opened: Sequence[str] = (),
) -> list[Answers]:
    """The answers to a request before the first filter and after each; None once a filter finds nothing in it.

    `key` is the place of the filters in the data set's file. `opened` has for each text the mark of the thought that
    its prompt has opened, which `strip_thinking` takes into account, or an empty text. Raises BoundError for a filter
    that takes too long.
    """
    steps: list[Answers] = [list(texts)]
    for number, each in enumerate(filters):
        with bounded(f"{key}.{number}.{each.bounded_by}" if each.bounded_by else f"{key}.{number}"):
            steps.append(each.apply(steps[-1], row, opened))
        opened = opened[: len(steps[-1])]  # those of a request are alike
    return steps
