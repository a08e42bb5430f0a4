"""The metric chrf, by sacrebleu (Popovic 2015, 2017)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from shardmark.metrics.base import Needs, Resampled

if TYPE_CHECKING:
    import numpy as np


class Chrf(Resampled):
    """chrF of the whole data set, by sacrebleu."""

    protocol: ClassVar[int] = 1
    needs: ClassVar[Needs] = Needs(packages=("sacrebleu",))

    name: Literal["chrf"]
    word_order: Literal[0, 2] = 0
    "0: chrF, 2: chrF++."

    def terms(self, predictions: Sequence[str], references: Sequence[list[str]]) -> list[list[float]]:
        """For each order: the n-grams of the answer, of the best reference, and in both."""
        chrf = self._sacrebleu()
        return [
            list(map(float, chrf._extract_corpus_statistics([answer], [[r] for r in right])[0]))
            for answer, right in zip(predictions, references, strict=True)
        ]

    def value(self, sums: "np.ndarray") -> float:
        """The value as a fraction."""
        return float(self._sacrebleu()._compute_score_from_stats([int(x) for x in sums]).score) / 100

    def _sacrebleu(self) -> Any:
        from sacrebleu.metrics import CHRF

        return CHRF(word_order=self.word_order)
