"""What all metrics share.

A metric turns a sample's prediction and reference into a row of numbers, its terms, and the sum of all rows into a
value. A mean has the terms (score, 1); BLEU has counts of n-grams; Matthews' correlation has a cell of the table of
confusions. So one way computes values of a data set, of its groups, and of samples drawn again for an error bar; and no
metric has to know about any of these.

A metric is a module beside this file with one class made from `Mean` or `Metric`.
"""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np

TEXT = datasets.Value("string")
NUMBER = datasets.Value("float64")
INTEGER = datasets.Value("int64")


class Metric(evaluate.Metric, abc.ABC):
    """A function of sums over samples. `compute` gives its value under its name, the terms, and a score a sample."""

    reads: ClassVar[str] = "text"
    "What of a sample is the prediction and the reference: a name in scoring/metric_inputs.py."
    prediction: ClassVar[Any] = TEXT
    reference: ClassVar[Any] = datasets.Sequence(TEXT)
    "Types of a prediction and of a reference."
    higher_is_better: ClassVar[bool] = True
    percent: ClassVar[bool] = True
    "Whether the value is a fraction, shown in percent."
    unanswered: ClassVar[str | None] = ""
    "The prediction that stands for an answer that was not found; None if such a sample simply scores 0."
    packages: ClassVar[tuple[str, ...]] = ()
    "Packages that decide the value: their versions are noted beside the score."
    of_samples: ClassVar[bool] = True
    "Whether the value of one sample says something."

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": self.prediction, "references": self.reference})
        return evaluate.MetricInfo(
            description=str(self.__doc__),
            citation="",
            inputs_description=f"predictions, references: see the view {self.reads!r} in scoring/metric_inputs.py",
            features=features,
        )

    @abc.abstractmethod
    def terms(self, predictions: Any, references: Any, *_: Any, **options: Any) -> list[list[float]]:
        """A row of numbers for each sample, all of one length."""

    @abc.abstractmethod
    def value(self, sums: np.ndarray, *_: Any, **options: Any) -> float:
        """The value of samples whose terms have these sums."""

    def is_mean(self, *_: Any, **options: Any) -> bool:
        """Whether the value is the mean of the samples' scores, whose error bar is a formula."""
        return False

    def _compute(self, predictions: Sequence[Any], references: Sequence[Any], **options: Any) -> dict[str, Any]:
        rows = self.terms(predictions, references, **options)
        alone = self.of_samples or self.is_mean(**options)
        samples = [self.value(np.array(row), **options) if alone else None for row in rows]
        return {self.name: self.value(np.sum(rows, axis=0), **options), "samples": samples, "terms": rows}


class Mean(Metric):
    """A mean of a score for each sample."""

    unanswered = None

    @abc.abstractmethod
    def scores(self, predictions: Any, references: Any, *_: Any, **options: Any) -> list[float]:
        """A score for each sample."""

    def terms(self, predictions: Any, references: Any, *_: Any, **options: Any) -> list[list[float]]:
        return [[score, 1.0] for score in self.scores(predictions, references, **options)]

    def value(self, sums: np.ndarray, *_: Any, **options: Any) -> float:
        return float(sums[0] / sums[1])

    def is_mean(self, *_: Any, **options: Any) -> bool:
        return True


class Labels(Metric):
    """A function of how often each label was right, predicted, and both. Labels are those of the references."""

    reads = "label"
    reference = TEXT
    of_samples = False

    def terms(self, predictions: Any, references: Any, *_: Any, **options: Any) -> list[list[float]]:
        """Three numbers for each label. A prediction that is no label is a wrong one."""
        place = {label: n for n, label in enumerate(sorted(set(references)))}
        counts = np.zeros((len(predictions), len(place), 3))
        for n, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
            counts[n, place[reference], 0] = 1
            if prediction in place:
                counts[n, place[prediction], 1] = 1
                counts[n, place[reference], 2] = prediction == reference
        return list(counts.reshape(len(predictions), -1).tolist())

    @staticmethod
    def counts(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each label: how often it was right, predicted, and both."""
        right, predicted, both = np.asarray(sums).reshape(-1, 3).T
        return right, predicted, both
