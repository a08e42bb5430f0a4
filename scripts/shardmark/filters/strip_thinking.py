"""The filter strip_thinking."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from shardmark.filters.base import Answers, TextFilter


class StripThinking(TextFilter):
    """Remove the thoughts of a reasoning model; a thought that never ends leaves no answer."""

    protocol: ClassVar[int] = 3
    reads_marks: ClassVar[bool] = True
    name: Literal["strip_thinking"]
    tag: str | None = Field(None, pattern=r"^[A-Za-z][\w.:-]*$")
    "The tag around thoughts; without it, all known ones: think, thinking, thought, reasoning, ..."

    def find(self, text: str) -> str | None:
        from shardmark.texts.thoughts import without_thoughts

        return without_thoughts(text, self.tag, bare=True)

    def apply(self, answers: Answers, row: Mapping[str, Any], opened: Sequence[str]) -> Answers:
        """The answers without thoughts; a thought that the prompt has opened may end in the answer, or never."""
        if opened:
            pairs = zip(answers, opened, strict=True)
            answers = [None if answer is None else mark + answer for answer, mark in pairs]
        return super().apply(answers, row, opened)
