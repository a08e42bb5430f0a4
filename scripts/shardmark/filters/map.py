"""The filter map."""

from typing import ClassVar, Literal

from pydantic import Field

from shardmark.filters.base import TextFilter


class MapFilter(TextFilter):
    """An answer becomes another."""

    protocol: ClassVar[int] = 1
    name: Literal["map"]
    values: dict[str, str] = Field(min_length=1)
    "What becomes what, e.g. `{'yes': A, 'no': B}`; without quotes, YAML takes yes and no for true and false."
    default: str | None = None
    "What every other answer becomes; without it, there is none."

    def find(self, text: str) -> str | None:
        return self.values.get(text, self.default)
