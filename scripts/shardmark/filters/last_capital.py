"""The filter last_capital."""

from typing import ClassVar, Literal

from shardmark.filters.base import TextFilter


class LastCapital(TextFilter):
    """The last capital letter."""

    protocol: ClassVar[int] = 1
    name: Literal["last_capital"]

    def finds(self, answer: str) -> bool:
        return len(answer) == 1 and answer.isupper()

    def find(self, text: str) -> str | None:
        return next(filter(str.isupper, reversed(text)), None)
