"""The metric brier (Brier 1950)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from shardmark.metrics.base import Mean, View


class Brier(Mean):
    """Squared distance between the choices' probabilities and the truth: 0 is best, 2 is worst."""

    protocol: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = frozenset({"choice"})
    reads: ClassVar[View] = "logprobs"
    higher_is_better: ClassVar[bool] = False
    percent: ClassVar[bool] = False

    name: Literal["brier"]

    def scores(self, predictions: Sequence[list[float]], references: Sequence[list[int]]) -> list[float]:
        """A score for each sample. Several right choices share the truth equally."""
        import numpy as np
        from scipy.special import softmax

        def distance(logprobs: list[float], right: list[int]) -> float:
            truth = np.zeros(len(logprobs))
            truth[right] = 1 / len(right)
            return float(((softmax(logprobs) - truth) ** 2).sum())

        return [distance(logprobs, right) for logprobs, right in zip(predictions, references, strict=True)]
