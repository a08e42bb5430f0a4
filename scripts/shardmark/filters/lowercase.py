"""The filter lowercase."""

from typing import ClassVar, Literal

from shardmark.filters.base import TextFilter


class Lowercase(TextFilter):
    """Convert letters to lower case."""

    protocol: ClassVar[int] = 1
    name: Literal["lowercase"]

    def find(self, text: str) -> str:
        return text.lower()
