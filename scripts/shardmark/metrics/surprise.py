"""What perplexities share: the log-likelihood of a text, over how much text it is."""

import abc
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from shardmark.metrics import base

WHITE_SPACE = re.compile(r"\s+")


class Surprise(base.Metric):
    """Mean negative log-likelihood (nats) per unit of text, and what a metric makes of it."""

    reads = "likelihood"
    prediction = base.NUMBER
    reference = base.TEXT
    higher_is_better = False
    percent = False

    @staticmethod
    @abc.abstractmethod
    def units(text: str) -> int:
        """How many units a text has."""

    def terms(self, predictions: Sequence[float], references: Sequence[str], **options: Any) -> list[list[float]]:
        return [[-logprob, float(self.units(text))] for logprob, text in zip(predictions, references, strict=True)]

    def value(self, sums: np.ndarray, **options: Any) -> float:
        with np.errstate(over="ignore"):  # infinite, then
            return float(np.exp(sums[0] / sums[1]))


class PerWord(Surprise, abc.ABC):
    """Words are what white space parts, as lm-evaluation-harness counts: one at the beginning makes a part, too."""

    @staticmethod
    def units(text: str) -> int:
        return len(WHITE_SPACE.split(text))


class PerByte(Surprise):
    """Bytes of the text in UTF-8."""

    @staticmethod
    def units(text: str) -> int:
        return len(text.encode())
