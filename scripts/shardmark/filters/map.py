"""The filter map."""

from typing import ClassVar, Literal

from pydantic import Field

from shardmark.filters.base import TextFilter


class MapFilter(TextFilter):
    """Replace answers by others."""

    protocol: ClassVar[int] = 1
    name: Literal["map"]
    values: dict[str, str] = Field(min_length=1)
    "Each answer with its replacement, e.g. `{'yes': A, 'no': B}`; without quotes, YAML reads yes and no as booleans."
    default: str | None = None
    "The replacement of all other answers; without it, they are dropped."

    def find(self, text: str) -> str | None:
        return self.values.get(text, self.default)
