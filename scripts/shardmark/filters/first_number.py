"""The filter first_number, and its common base with last_number."""

from typing import ClassVar, Literal

from shardmark.filters.base import TextFilter


class NumberFilter(TextFilter):
    """A number of a text, in a plain spelling."""

    thousands: Literal[",", "any"] = ","
    """`,`: as in English, so that 1.250 has decimals, and 2,5 are two numbers. `any`: a point or comma before exactly
    three digits separates thousands, and any other comma is a decimal comma."""

    def finds(self, answer: str) -> bool:
        return bool(answer.strip())


class FirstNumber(NumberFilter):
    """The first number, in a plain spelling: `$1,234.50` is `1234.50`, `−5` is `-5`, `3 × 10^8` is `3e8`."""

    protocol: ClassVar[int] = 2
    name: Literal["first_number"]

    def find(self, text: str) -> str | None:
        from shardmark.texts.numbers import numbers

        return next(numbers(text, self.thousands), None)
