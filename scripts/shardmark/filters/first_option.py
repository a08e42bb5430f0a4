"""The filter first_option."""

from typing import ClassVar, Literal

from pydantic import Field

from shardmark.filters.base import TextFilter


class FirstOption(TextFilter):
    """The option that an answer states: `B`, `(B)`, `the answer is B`, `not A but B`; none if it states several."""

    protocol: ClassVar[int] = 8
    name: Literal["first_option"]
    options: str = Field(pattern="^[A-Za-z]+$")
    "The letters to look for, e.g. ABCD."

    def finds(self, answer: str) -> bool:
        return answer in [*self.options]

    def find(self, text: str) -> str | None:
        from shardmark.texts.options import first_option  # 50 ms of patterns, for scoring only

        return first_option(text, self.options)
