"""The metric mcc.

For several labels it is R_K (Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation
coefficient"), as scikit-learn's matthews_corrcoef; computed from counts, so that an error bar need not count again.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from shardmark.metrics.base import Labels

if TYPE_CHECKING:
    import numpy as np


class Mcc(Labels):
    """Matthews' correlation coefficient of labels: 1 is perfect, 0 is chance."""

    protocol: ClassVar[int] = 1
    percent: ClassVar[bool] = False

    name: Literal["mcc"]

    def value(self, sums: "np.ndarray") -> float:
        """The coefficient; 0 if nothing varies."""
        import numpy as np

        right, predicted, both = self.counts(sums)
        n = right.sum()
        predicted = np.append(predicted, n - predicted.sum())  # those that are not a label
        spread = (n**2 - predicted @ predicted) * (n**2 - right @ right)
        return float((both.sum() * n - right @ predicted[:-1]) / spread**0.5) if spread > 0 else 0.0
