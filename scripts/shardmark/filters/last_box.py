"""The filter last_box."""

from typing import ClassVar, Literal

from shardmark.filters.base import TextFilter
from shardmark.texts.boxes import boxes


class LastBox(TextFilter):
    """The content of the last `\\boxed{...}` that is not empty."""

    protocol: ClassVar[int] = 1
    name: Literal["last_box"]

    def find(self, text: str) -> str | None:
        return next(filter(None, reversed(boxes(text))), None)
