"""The filter first_line."""

from typing import ClassVar, Literal

from shardmark.filters.base import TextFilter


class FirstLine(TextFilter):
    """The first line that is not blank, without its line break."""

    protocol: ClassVar[int] = 1
    name: Literal["first_line"]

    def find(self, text: str) -> str | None:
        return next(filter(str.strip, text.splitlines()), None)
