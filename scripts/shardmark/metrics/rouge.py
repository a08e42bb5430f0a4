"""The metric rouge, by Google's rouge-score (Lin 2004)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from shardmark.metrics.base import Mean, Needs


class Rouge(Mean):
    """ROUGE's F-measure of an answer and the nearest target."""

    protocol: ClassVar[int] = 1
    needs: ClassVar[Needs] = Needs(packages=("rouge-score", "nltk"))

    name: Literal["rouge"]
    type: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = "rougeL"
    "What is compared: words, pairs of words, the longest common sequence, or that over lines."
    stem: bool = False
    "Reduce words to their stems (Porter)."

    def check_targets(self, targets: list[str]) -> None:
        """Raise RenderError for targets of which rouge-score would read less than half."""
        from shardmark.untrusted.templates import RenderError

        letters = [c for target in targets for c in target if c.isalnum()]
        if 2 * sum(c.isascii() for c in letters) < len(letters):
            what = "metric rouge reads only the letters a to z and digits, and most of the target's are others"
            raise RenderError(what, "use chrf, or bleu with tokenize: char", key="target")

    def scores(self, predictions: Sequence[str], references: Sequence[list[str]]) -> list[float]:
        """A score for each sample. rougeLsum takes lines for sentences."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([self.type], use_stemmer=self.stem)
        return [
            float(scorer.score_multi(right, answer)[self.type].fmeasure)
            for answer, right in zip(predictions, references, strict=True)
        ]
