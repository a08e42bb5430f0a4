"""The filter strip."""

from typing import ClassVar, Literal

from shardmark.filters.base import TextFilter


class Strip(TextFilter):
    """Remove white space at both ends."""

    protocol: ClassVar[int] = 1
    name: Literal["strip"]

    def find(self, text: str) -> str:
        return text.strip()
