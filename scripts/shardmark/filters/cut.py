"""The filter cut."""

from typing import ClassVar, Literal

from pydantic import Field

from shardmark.filters.base import TextFilter


class Cut(TextFilter):
    """Drop everything from a marker on."""

    protocol: ClassVar[int] = 1
    name: Literal["cut"]
    marker: str = Field(min_length=1)
    "The text at which the answer ends."

    def find(self, text: str) -> str:
        return text.partition(self.marker)[0]
