"""Exact match of answers, as a local `evaluate` module: it is loaded by path and never fetched."""

from typing import Any

import datasets
import evaluate


class ExactMatch(evaluate.Metric):
    """Share of samples whose answer equals one of its references."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=str(self.__doc__),
            citation="",
            inputs_description="predictions: answers; references: a list of right answers for each",
            features=datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[list[str]],
        ignore_case: bool = False,
        tolerance: float | None = None,
    ) -> dict[str, Any]:
        """The mean, and a 1.0 or 0.0 for each sample.

        With `tolerance` answers are compared as numbers (thousands separators and a leading $ don't count).
        """

        def equal(answer: str, reference: str) -> bool:
            if tolerance is not None:
                a, b = _number(answer), _number(reference)
                return a is not None and b is not None and abs(a - b) <= tolerance
            return answer.casefold() == reference.casefold() if ignore_case else answer == reference

        samples = [
            float(any(equal(answer, r) for r in right)) for answer, right in zip(predictions, references, strict=True)
        ]
        return {"exact_match": sum(samples) / len(samples), "samples": samples}


def _number(text: str) -> float | None:
    try:
        return float(text.strip().lstrip("$").replace(",", ""))
    except ValueError:
        return None
