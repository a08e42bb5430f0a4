"""What all filters share.

A filter is a file beside this one: a class with its settings, their defaults, and what it makes of answers.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import ConfigDict

from shardmark.settings import Settings

Answers = list[str | None]
"The answers to a request, None for one that was not found."


class Filter(Settings, abc.ABC):
    """A step from what a model wrote to its answer."""

    model_config = ConfigDict(defer_build=True)

    protocol: ClassVar[int]
    "To be raised when the same outputs would get other answers; what uses the filter is then scored anew."
    bounded_by: ClassVar[str] = ""
    "The setting that decides how long it takes, if one does."
    reads_marks: ClassVar[bool] = False
    "Whether outputs have the special tokens that mark thoughts for it, and for all filters of its chain."
    name: str

    @abc.abstractmethod
    def apply(self, answers: Answers, row: Mapping[str, Any], opened: Sequence[str]) -> Answers:
        """The answers to a request after this step.

        `row` is what the request was made of. `opened` has for each answer the mark of the thought that its prompt has
        opened, an empty text if there is none; it is empty where nothing is known of that.
        """

    def left(self, answers: int) -> int:
        """How many of that many answers to a request are left."""
        return answers

    def templates(self) -> dict[str, str]:
        """By key, the settings that are templates over `answer` and the row's columns."""
        return {}


class TextFilter(Filter):
    """A filter that sees one answer at a time."""

    @abc.abstractmethod
    def find(self, text: str) -> str | None:
        """The answer in a text; None if there is none."""

    def apply(self, answers: Answers, row: Mapping[str, Any], opened: Sequence[str]) -> Answers:
        return [None if answer is None else self.find(answer) for answer in answers]
