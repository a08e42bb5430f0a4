"""The metric mc1 (Lin et al. 2021, "TruthfulQA")."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from shardmark.metrics.base import Mean, View


class Mc1(Mean):
    """TruthfulQA's MC1: share of questions whose likeliest choice is right."""

    protocol: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = frozenset({"choice"})
    reads: ClassVar[View] = "logprobs"

    name: Literal["mc1"]

    def is_right_or_wrong(self) -> bool:
        return True

    def scores(self, predictions: Sequence[list[float]], references: Sequence[list[int]]) -> list[float]:
        pairs = zip(predictions, references, strict=True)
        return [float(logprobs.index(max(logprobs)) in right) for logprobs, right in pairs]
