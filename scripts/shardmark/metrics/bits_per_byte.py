"""The metric bits_per_byte."""

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from shardmark.metrics.negative_log_likelihood import PerByte

if TYPE_CHECKING:
    import numpy as np


class BitsPerByte(PerByte):
    """Bits per byte of text: the negative log-likelihood of all texts over their bytes; lower is better."""

    protocol: ClassVar[int] = 1

    name: Literal["bits_per_byte"]

    def value(self, sums: "np.ndarray") -> float:
        return float(sums[0] / sums[1] / math.log(2))
