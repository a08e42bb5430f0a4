"""F1 of answers or labels, as a local `evaluate` module: it is loaded by path and never fetched.

Over labels it is scikit-learn's f1_score, from counts, so that an error bar need not count again.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from shardmark.metrics import base
from shardmark.texts.words import word_f1


class F1(base.Labels):
    """Harmonic mean of precision and recall: of words in each answer, of one label, or the mean over labels."""

    reads = "text"
    reference = base.Metric.reference

    def terms(
        self,
        predictions: Sequence[str],
        references: Sequence[list[str]],
        average: str = "token",
        positive: str = "1",
    ) -> list[list[float]]:
        """Token: the best reference's F1 of words, and 1. Else counts for each label, or for the positive one."""
        if average == "token":
            pairs = zip(predictions, references, strict=True)
            return [[max((word_f1(answer, r) for r in right), default=0.0), 1.0] for answer, right in pairs]
        labels = [right[0] for right in references]
        if average == "macro":
            return super().terms(predictions, labels)
        found, true = (np.array([label == positive for label in those], float) for those in (predictions, labels))
        return list(np.stack([true, found, true * found], axis=1).tolist())

    def value(self, sums: np.ndarray, average: str = "token", **options: Any) -> float:
        """Labels that neither occur nor are predicted don't count."""
        if average == "token":
            return float(sums[0] / sums[1])
        right, predicted, both = self.counts(sums)
        occurs = (right + predicted) > 0
        return float(np.mean(2 * both[occurs] / (right + predicted)[occurs])) if occurs.any() else 0.0

    def is_mean(self, average: str = "token", **options: Any) -> bool:
        return average == "token"
