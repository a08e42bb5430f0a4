"""SQuAD's scores of short answers, as a local `evaluate` module: it is loaded by path and never fetched.

Rajpurkar et al. 2016, "SQuAD: 100,000+ questions for machine comprehension of text", as in its script for version 1.1.
"""

from collections.abc import Sequence

from shardmark.metrics import base
from shardmark.texts.words import bare, word_f1


class Squad(base.Mean):
    """How much of an answer is that of the best reference; case, punctuation and articles don't count."""

    def scores(self, predictions: Sequence[str], references: Sequence[list[str]], part: str = "f1") -> list[float]:
        """The best reference's F1 of words, or for `part` exact_match 1.0 where all are equal."""

        def score(answer: str, reference: str) -> float:
            return word_f1(answer, reference) if part == "f1" else float(bare(answer) == bare(reference))

        return [
            max((score(answer, r) for r in right), default=0.0)
            for answer, right in zip(predictions, references, strict=True)
        ]
