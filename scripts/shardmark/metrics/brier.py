"""Brier's score, as a local `evaluate` module: it is loaded by path and never fetched."""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
from scipy.special import softmax

from shardmark.metrics import base


class Brier(base.Mean):
    """Squared distance of the choices' probabilities to the truth (Brier 1950): 0 is best, 2 is worst."""

    reads = "logprobs"
    prediction = datasets.Sequence(base.NUMBER)
    reference = datasets.Sequence(base.INTEGER)
    higher_is_better = False
    percent = False

    def scores(
        self, predictions: Sequence[list[float]], references: Sequence[list[int]], **options: Any
    ) -> list[float]:
        """Several right choices share the truth equally."""

        def distance(logprobs: list[float], right: list[int]) -> float:
            truth = np.zeros(len(logprobs))
            truth[right] = 1 / len(right)
            return float(((softmax(logprobs) - truth) ** 2).sum())

        return [distance(logprobs, right) for logprobs, right in zip(predictions, references, strict=True)]
