"""The metric accuracy."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from shardmark.metrics.base import Mean, Scoring, View


class Accuracy(Mean):
    """Share of samples whose chosen label is the target; for kind loglikelihood, whose target is the likeliest text."""

    protocol: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = frozenset({"choice", "loglikelihood"})
    reads: ClassVar[View] = "choice"

    name: Literal["accuracy"]
    scoring: Scoring | None = None
    "How choices are ranked here; without it, as in the data set."

    def ranking(self) -> Scoring | None:
        return self.scoring

    def is_right_or_wrong(self) -> bool:
        return True

    def scores(self, predictions: Sequence[int], references: Sequence[list[int]]) -> list[float]:
        """A 1.0 or 0.0 for each sample. No prediction (-1) is wrong."""
        return [float(p in right) for p, right in zip(predictions, references, strict=True)]
