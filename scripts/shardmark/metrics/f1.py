"""The metric f1.

Over labels it is scikit-learn's f1_score, computed from counts, so that an error bar need not count again.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from shardmark.metrics.base import Labels, View
from shardmark.texts.words import word_f1

if TYPE_CHECKING:
    import numpy as np


class F1(Labels):
    """Harmonic mean of precision and recall."""

    protocol: ClassVar[int] = 4
    reads: ClassVar[View] = "text"

    name: Literal["f1"]
    average: Literal["token", "binary", "macro"] = "token"
    "token: over the words of each answer, as SQuAD; binary: for one label; macro: the mean over all labels."
    positive: str = "1"
    "For average binary: the label that counts; for kind choice, the index from 0."

    def check_targets(self, targets: list[str]) -> None:
        if self.average != "token":
            super().check_targets(targets)

    def terms(self, predictions: Sequence[str], references: Sequence[list[str]]) -> list[list[float]]:
        """For average token, the best reference's F1 of words, and 1; else counts for each (or the positive) label."""
        import numpy as np

        if self.average == "token":
            pairs = zip(predictions, references, strict=True)
            return [[max((word_f1(answer, r) for r in right), default=0.0), 1.0] for answer, right in pairs]
        labels = [right[0] for right in references]
        if self.average == "macro":
            return super().terms(predictions, labels)
        found, true = (np.array([label == self.positive for label in those], float) for those in (predictions, labels))
        return list(np.stack([true, found, true * found], axis=1).tolist())

    def value(self, sums: "np.ndarray") -> float:
        """The value; labels that neither occur nor are predicted don't count."""
        if self.average == "token":
            return float(sums[0] / sums[1])
        right, predicted, both = self.counts(sums)
        occurs = (right + predicted) > 0
        return float((2 * both[occurs] / (right + predicted)[occurs]).mean()) if occurs.any() else 0.0

    def is_mean(self) -> bool:
        return self.average == "token"
