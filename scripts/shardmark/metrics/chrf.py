"""chrF and chrF++ by sacrebleu, as a local `evaluate` module: it is loaded by path and never fetched."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from shardmark.metrics import base


class Chrf(base.Metric):
    """F-score of characters' (and words') n-grams of all answers (Popovic 2015, 2017), a fraction."""

    packages = ("sacrebleu",)

    def terms(self, predictions: Sequence[str], references: Sequence[list[str]], **options: Any) -> list[list[float]]:
        """For each order: n-grams of the answer, of the best reference, and in both."""
        chrf = _sacrebleu(**options)
        return [
            list(map(float, chrf._extract_corpus_statistics([answer], [[r] for r in right])[0]))
            for answer, right in zip(predictions, references, strict=True)
        ]

    def value(self, sums: np.ndarray, **options: Any) -> float:
        return float(_sacrebleu(**options)._compute_score_from_stats([int(x) for x in sums]).score) / 100


def _sacrebleu(word_order: int = 0) -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF(word_order=word_order)
