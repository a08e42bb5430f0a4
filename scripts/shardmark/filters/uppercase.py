"""The filter uppercase."""

from typing import ClassVar, Literal

from shardmark.filters.base import TextFilter


class Uppercase(TextFilter):
    """Convert letters to upper case."""

    protocol: ClassVar[int] = 1
    name: Literal["uppercase"]

    def find(self, text: str) -> str:
        return text.upper()
