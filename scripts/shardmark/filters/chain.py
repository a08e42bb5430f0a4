"""From a model's outputs to its answers, by the filters of a data set in order."""

from collections.abc import Mapping, Sequence
from typing import Any

from shardmark.filters.base import Answers, Filter
from shardmark.untrusted.limits import bounded


def apply_filters(
    texts: Sequence[str | None],
    filters: Sequence[Filter],
    row: Mapping[str, Any],
    key: str = "filters",
    *,
    opened: Sequence[str] = (),
) -> Answers:
    """The answers to a request after all filters; None once a filter finds nothing in it.

    `key` is the place of the filters in the data set's file. `opened` has for each text the mark of the thought that
    its prompt has opened, which `strip_thinking` takes into account, or an empty text. Raises BoundError for a filter
    that takes too long.
    """
    answers: Answers = list(texts)
    for number, each in enumerate(filters):
        with bounded(f"{key}.{number}.{each.bounded_by}" if each.bounded_by else f"{key}.{number}"):
            answers = each.apply(answers, row, opened)
        opened = opened[: len(answers)]  # those of a request are alike
    return answers
