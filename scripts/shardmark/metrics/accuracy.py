"""Accuracy of labels, as a local `evaluate` module: it is loaded by path and never fetched."""

from collections.abc import Sequence
from typing import Any

import datasets

from shardmark.metrics import base


class Accuracy(base.Mean):
    """Share of samples whose predicted label is a reference label. No prediction (-1) is wrong."""

    reads = "choice"
    prediction = base.INTEGER
    reference = datasets.Sequence(base.INTEGER)

    def scores(self, predictions: Sequence[int], references: Sequence[list[int]], **options: Any) -> list[float]:
        return [float(p in right) for p, right in zip(predictions, references, strict=True)]
