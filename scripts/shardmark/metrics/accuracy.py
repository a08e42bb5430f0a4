"""Accuracy of labels, as a local `evaluate` module: it is loaded by path and never fetched."""

from typing import Any

import datasets
import evaluate


class Accuracy(evaluate.Metric):
    """Share of samples whose predicted label is the reference label. No prediction (-1) is wrong."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(self.__doc__),
            citation="",
            inputs_description="predictions, references: label indices; a prediction of -1 means none was found",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, Any]:
        """The mean, and a 1.0 or 0.0 for each sample."""
        samples = [float(p == r) for p, r in zip(predictions, references, strict=True)]
        return {"accuracy": sum(samples) / len(samples), "samples": samples}
