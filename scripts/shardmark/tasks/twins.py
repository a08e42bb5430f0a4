"""Rows that ask the same, whatever their ids: an example must not show a question with its answer."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from shardmark.files import digest
from shardmark.tasks.prompt_templates import Question
from shardmark.tasks.rows import Row
from shardmark.untrusted.templates import RenderError

UNSEEN = re.compile("[\u200b\u200c\u200d\u2060\ufeff]")
"Characters without width."
MANY = 256
"The most rows with the same prompt that are compared within the bounds of one step."


class Wholes(NamedTuple):
    """Digests of a row's questions with answers, which tell apart rows that differ in their choices only."""

    all: frozenset[str]
    right: frozenset[str]

    def same(self, other: "Wholes") -> bool:
        """Whether the choices are the same, or a right one is the same answer to the same question."""
        return bool(self.all and self.all == other.all) or not self.right.isdisjoint(other.right)


class Twins:
    """Finds the rows of a pool that ask the same as a row; white space makes no difference."""

    def __init__(
        self, question: Question, pool: Sequence[Row], step: Callable[[int], AbstractContextManager[None]]
    ) -> None:
        """`step` bounds the work on a row of the pool, by its number. Raises RenderError beyond bounds."""
        self._question, self._pool = question, pool
        self._choosing = question.settings.kind == "choice"
        self._known: dict[int, Wholes] = {}
        self._alike: dict[str, list[int]] = defaultdict(list)
        for number, row in enumerate(pool):
            with step(number):
                key = self._key(row)
            if key is not None:
                self._alike[key].append(number)
        for numbers in self._alike.values() if self._choosing else ():
            for number in numbers if len(numbers) > MANY else ():
                with step(number):
                    self._whole(number)

    def of(self, row: Row) -> set[int]:
        """The numbers of the rows in the pool that ask the same."""
        key = self._key(row)
        found = self._alike.get(key, []) if key is not None else []
        if not (found and self._choosing):
            return set(found)
        own = self._wholes(row)
        return {number for number in found if own.same(self._whole(number))}

    def _key(self, row: Row) -> str | None:
        """A digest of a row's prompt; None if it cannot be rendered, or contains no column."""
        try:
            return digest(normal(self._question.asked(row)))
        except RenderError as error:
            if error.endless:
                raise
            return digest("") if self._choosing else None  # a template may need a choice that is not empty

    def _whole(self, number: int) -> Wholes:
        if number not in self._known:
            self._known[number] = self._wholes(self._pool[number])
        return self._known[number]

    def _wholes(self, row: Row) -> Wholes:
        try:
            texts, right = self._question.answered(row)
        except RenderError as error:
            if error.endless:
                raise
            return Wholes(frozenset(), frozenset())
        digests = [digest(normal(text)) for text in texts]
        return Wholes(frozenset(digests), frozenset(digests[number] for number in right))


def normal(text: str) -> str:
    """A text without invisible differences: the amount of white space, and the encoding of accents."""
    return " ".join(UNSEEN.sub("", unicodedata.normalize("NFC", text)).split())
