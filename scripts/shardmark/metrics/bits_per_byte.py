"""Bits that a byte of text costs, as a local `evaluate` module: it is loaded by path and never fetched."""

import math
from typing import Any

import numpy as np

from shardmark.metrics import surprise


class BitsPerByte(surprise.PerByte):
    """Bits that a byte of text costs: the negative log-likelihood of all texts over their bytes."""

    def value(self, sums: np.ndarray, **options: Any) -> float:
        return float(sums[0] / sums[1] / math.log(2))
