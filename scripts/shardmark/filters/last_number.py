"""The filter last_number."""

from typing import ClassVar, Literal

from shardmark.filters.first_number import NumberFilter


class LastNumber(NumberFilter):
    """The last number, in a plain spelling: `$1,234.50` is `1234.50`, `−5` is `-5`, `3 × 10^8` is `3e8`."""

    protocol: ClassVar[int] = 2
    name: Literal["last_number"]

    def find(self, text: str) -> str | None:
        from shardmark.texts.numbers import numbers

        return next(iter([*numbers(text, self.thousands)][-1:]), None)
