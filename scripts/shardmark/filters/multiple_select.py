"""The filter multiple_select."""

from typing import ClassVar, Literal

from shardmark.filters.base import TextFilter


class MultipleSelect(TextFilter):
    """All capital letters, each once, in alphabetical order: `B and A, so AB` is `AB`."""

    protocol: ClassVar[int] = 1
    name: Literal["multiple_select"]

    def find(self, text: str) -> str | None:
        return "".join(sorted(set(filter(str.isupper, text)))) or None
