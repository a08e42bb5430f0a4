"""The filter take_first."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from shardmark.filters.base import Answers, Filter


class TakeFirst(Filter):
    """Of several answers to a request, only the first k."""

    protocol: ClassVar[int] = 1
    name: Literal["take_first"]
    k: PositiveInt = 1
    "How many answers to keep."

    def apply(self, answers: Answers, row: Mapping[str, Any], opened: Sequence[str]) -> Answers:
        return answers[: self.k]

    def left(self, answers: int) -> int:
        return min(self.k, answers)
