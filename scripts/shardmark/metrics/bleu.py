"""The metric bleu, by sacrebleu (Papineni et al. 2002)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from shardmark.metrics.base import Needs, Resampled

if TYPE_CHECKING:
    import numpy as np


class Bleu(Resampled):
    """BLEU of the whole data set, by sacrebleu."""

    protocol: ClassVar[int] = 1
    needs: ClassVar[Needs] = Needs(packages=("sacrebleu",))

    name: Literal["bleu"]
    tokenize: Literal["13a", "intl", "char", "zh", "none"] = "13a"
    "How texts are split into words."
    ignore_case: bool = False
    "Ignore case."

    def terms(self, predictions: Sequence[str], references: Sequence[list[str]]) -> list[list[float]]:
        """Lengths of the answer and the nearest reference, and counts of right and of all n-grams."""
        bleu = self._sacrebleu()
        return [
            list(map(float, bleu._extract_corpus_statistics([answer], [[r] for r in right])[0]))
            for answer, right in zip(predictions, references, strict=True)
        ]

    def value(self, sums: "np.ndarray") -> float:
        """A fraction; for one sample, the value of a data set with only that sample."""
        return float(self._sacrebleu()._compute_score_from_stats([int(x) for x in sums]).score) / 100

    def _sacrebleu(self) -> Any:
        from sacrebleu.metrics import BLEU

        return BLEU(tokenize=self.tokenize, lowercase=self.ignore_case)
