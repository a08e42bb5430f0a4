"""BLEU by sacrebleu, as a local `evaluate` module: it is loaded by path and never fetched."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from shardmark.metrics import base


class Bleu(base.Metric):
    """BLEU of all answers (Papineni et al. 2002), a fraction; of one sample it is that of a data set with only it."""

    packages = ("sacrebleu",)

    def terms(self, predictions: Sequence[str], references: Sequence[list[str]], **options: Any) -> list[list[float]]:
        """Lengths of answer and nearest reference, and counts of right and all n-grams."""
        bleu = _sacrebleu(**options)
        return [
            list(map(float, bleu._extract_corpus_statistics([answer], [[r] for r in right])[0]))
            for answer, right in zip(predictions, references, strict=True)
        ]

    def value(self, sums: np.ndarray, **options: Any) -> float:
        return float(_sacrebleu(**options)._compute_score_from_stats([int(x) for x in sums]).score) / 100


def _sacrebleu(tokenize: str = "13a", ignore_case: bool = False) -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=tokenize, lowercase=ignore_case)
