"""The metric mc2 (Lin et al. 2021, "TruthfulQA")."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from shardmark.metrics.base import Mean, View


class Mc2(Mean):
    """TruthfulQA's MC2: the probability of all right choices together, among all choices."""

    protocol: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = frozenset({"choice"})
    reads: ClassVar[View] = "logprobs"

    name: Literal["mc2"]

    def scores(self, predictions: Sequence[list[float]], references: Sequence[list[int]]) -> list[float]:
        from scipy.special import softmax

        pairs = zip(predictions, references, strict=True)
        return [float(softmax(logprobs)[right].sum()) for logprobs, right in pairs]
