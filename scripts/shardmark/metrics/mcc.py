"""Matthews' correlation coefficient, as a local `evaluate` module: it is loaded by path and never fetched.

For several labels it is R_K (Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation
coefficient"), as scikit-learn's matthews_corrcoef; from counts, so that an error bar need not count again.
"""

from typing import Any

import numpy as np

from shardmark.metrics import base


class Mcc(base.Labels):
    """Correlation of predicted and right labels: 1 is perfect, 0 is chance or no variation."""

    percent = False

    def value(self, sums: np.ndarray, **options: Any) -> float:
        right, predicted, both = self.counts(sums)
        n = right.sum()
        predicted = np.append(predicted, n - predicted.sum())  # those that are no label
        spread = (n**2 - predicted @ predicted) * (n**2 - right @ right)
        return float((both.sum() * n - right @ predicted[:-1]) / spread**0.5) if spread > 0 else 0.0
