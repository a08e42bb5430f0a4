"""The metric squad.

Rajpurkar et al. 2016, "SQuAD: 100,000+ questions for machine comprehension of text", as in its script for version 1.1.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from shardmark.metrics.base import Mean
from shardmark.texts.words import has_words, same_words, word_f1


class Squad(Mean):
    """SQuAD's scores: case, punctuation and the articles a, an, the don't count; the best target does."""

    protocol: ClassVar[int] = 4

    name: Literal["squad"]
    part: Literal["f1", "exact_match", "contains"] = "f1"
    "f1: overlap of words. exact_match: equality. contains: whether the words of a target are in the answer, in a row."

    def is_right_or_wrong(self) -> bool:
        return self.part != "f1"

    def scores(self, predictions: Sequence[str], references: Sequence[list[str]]) -> list[float]:
        """The `part` for the best reference."""
        score = {"f1": word_f1, "exact_match": same_words, "contains": has_words}[self.part]
        return [
            float(max((score(answer, r) for r in right), default=0.0))
            for answer, right in zip(predictions, references, strict=True)
        ]
