"""The metric squad.

Rajpurkar et al. 2016, "SQuAD: 100,000+ questions for machine comprehension of text", as in its script for version 1.1.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from shardmark.metrics.base import Mean
from shardmark.texts.words import same_words, word_f1


class Squad(Mean):
    """SQuAD's scores: case, punctuation and the articles a, an, the don't count; the best target does."""

    protocol: ClassVar[int] = 3

    name: Literal["squad"]
    part: Literal["f1", "exact_match"] = "f1"
    "f1: overlap of words. exact_match: equality."

    def is_right_or_wrong(self) -> bool:
        return self.part == "exact_match"

    def scores(self, predictions: Sequence[str], references: Sequence[list[str]]) -> list[float]:
        """The best reference's F1 of words or, for `part` exact_match, 1.0 if all words are equal."""

        def score(answer: str, reference: str) -> float:
            return word_f1(answer, reference) if self.part == "f1" else float(same_words(answer, reference))

        return [
            max((score(answer, r) for r in right), default=0.0)
            for answer, right in zip(predictions, references, strict=True)
        ]
