"""The filter last_number."""

from typing import ClassVar, Literal

from shardmark.filters.first_number import NumberFilter
from shardmark.texts.boxes import boxes


class LastNumber(NumberFilter):
    """The last number in a box or else in the text, in a plain spelling: `$1,234.50` is `1234.50`, `−5` is `-5`."""

    protocol: ClassVar[int] = 3
    name: Literal["last_number"]

    def find(self, text: str) -> str | None:
        from shardmark.texts.numbers import numbers

        for part in (*reversed(boxes(text)), text):
            if found := [*numbers(part, self.thousands)]:
                return found[-1]
        return None
