"""The ranks of models: ranges, as differences may be due to chance."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shardmark.power import LEVEL
from shardmark.scoring.comparisons import Numbers


class RankRange(NamedTuple):
    """The ranks that a model may have; 1 is the best."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}–{self.last}"


def rank_ranges(values: Sequence[float], p: Numbers) -> list[RankRange]:
    """The range of each model's rank, from their values (higher is better) and the p-values of their differences.

    `p` is a table [model, other model] of p-values that are corrected for the number of comparisons in it
    (`scoring.comparisons.holm_of_pairs`). A model's first rank counts the models that are significantly better than it,
    its last rank those that are significantly worse: so two models that cannot be distinguished have a rank in common,
    unless others are between them.
    """
    merits = np.asarray(values, dtype=float)
    lower = merits[:, None] < merits[None, :]
    told = np.asarray(p) < LEVEL
    better, worse = (told & lower).sum(axis=1), (told & lower.T).sum(axis=1)
    return [RankRange(1 + int(b), len(merits) - int(w)) for b, w in zip(better, worse, strict=True)]
