"""ROUGE by Google's rouge-score, as a local `evaluate` module: it is loaded by path and never fetched."""

from collections.abc import Sequence

from shardmark.metrics import base


class Rouge(base.Mean):
    """F-measure of what an answer has in common with the nearest reference (Lin 2004)."""

    packages = ("rouge-score", "nltk")

    def scores(
        self, predictions: Sequence[str], references: Sequence[list[str]], type: str = "rougeL", stem: bool = False
    ) -> list[float]:
        """rougeLsum takes lines for sentences."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([type], use_stemmer=stem)
        return [
            float(scorer.score_multi(right, answer)[type].fmeasure)
            for answer, right in zip(predictions, references, strict=True)
        ]
