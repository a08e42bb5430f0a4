"""The common base of all filters.

A filter is a file in this folder: a class with its settings, their defaults, and a function of answers.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import ConfigDict

from shardmark.settings import Settings

Answers = list[str | None]
"The answers to a request; None for one that was not found."


class Filter(Settings, abc.ABC):
    """A step from a model's output to its answer."""

    model_config = ConfigDict(defer_build=True)

    protocol: ClassVar[int]
    "To be raised when the same outputs would get other answers; data sets with the filter are then scored again."
    bounded_by: ClassVar[str] = ""
    "The setting that decides how long it takes, if any."
    reads_marks: ClassVar[bool] = False
    "Whether it, and with it all filters of its chain, gets outputs with the special tokens that mark thoughts."
    name: str

    @abc.abstractmethod
    def apply(self, answers: Answers, row: Mapping[str, Any], opened: Sequence[str]) -> Answers:
        """The answers to a request after this step.

        `row` is the row that the request was made from. `opened` has for each answer the mark of the thought that its
        prompt has opened, or an empty text; it is empty if this is unknown.
        """

    def finds(self, answer: str) -> bool:
        """Whether it could give this answer."""
        return True

    def left(self, answers: int) -> int:
        """How many of `answers` answers to a request are left."""
        return answers

    def templates(self) -> dict[str, str]:
        """The settings that are templates over `answer` and the row's columns, by key."""
        return {}


class TextFilter(Filter):
    """A filter that sees one answer at a time."""

    @abc.abstractmethod
    def find(self, text: str) -> str | None:
        """The answer in a text; None if there is none."""

    def apply(self, answers: Answers, row: Mapping[str, Any], opened: Sequence[str]) -> Answers:
        return [None if answer is None else self.find(answer) for answer in answers]
