"""The common base of all metrics.

A metric turns a sample's prediction and reference into a row of numbers, its terms, and the sum of all rows into a
value. A mean has the terms (score, 1); BLEU has counts of n-grams; Matthews' correlation has a cell of the confusion
matrix. So one mechanism computes the values of a data set, of its groups, and of resampled data for an error bar; and
no metric has to know about any of these.

A metric is a file in this folder: a class with its settings, their defaults, its needs, its checks, and its
computation. It imports anything heavy, including NumPy, only when it computes: reading settings imports these files.
"""

import abc
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import ConfigDict, Field

from shardmark.metrics.repeats import AnyRepeats, Average, Repeats
from shardmark.settings import Settings

if TYPE_CHECKING:
    import numpy as np

Scoring = Literal["sum", "token", "char", "byte", "perplexity"]
"How choices are ranked."
View = Literal["text", "with_row", "label", "program", "choice", "logprobs", "likelihood"]
"The parts of a sample that a metric reads; scoring/metric_inputs.py has a function of each name."


class Needs(NamedTuple):
    """A metric's requirements on a machine that scores."""

    sandbox: bool = False
    "Whether it needs bubblewrap, in which generated programs run."
    packages: tuple[str, ...] = ()
    "Packages that affect the value: their versions are noted beside the score."


class Metric(Settings, abc.ABC):
    """A function of sums over samples."""

    model_config = ConfigDict(defer_build=True)

    protocol: ClassVar[int]
    "To be raised when the same answers would get other scores; data sets with the metric are then scored again."
    kinds: ClassVar[frozenset[str]] = frozenset({"generate", "choice"})
    "The kinds of data sets that have the inputs it reads."
    needs: ClassVar[Needs] = Needs()
    reads: ClassVar[View] = "text"
    higher_is_better: ClassVar[bool] = True
    percent: ClassVar[bool] = True
    "Whether the value is a fraction, shown in percent."
    unanswered: ClassVar[str | None] = ""
    "The prediction in place of an answer that was not found; None if such a sample simply scores 0."
    of_samples: ClassVar[bool] = True
    "Whether the value of a single sample has a meaning."

    finds_answers: ClassVar[bool] = False
    "Whether it looks for the answer in a whole text, so that no filter need find it."

    name: str
    label: str | None = Field(None, pattern=r"^[\w@.+^-]+$")
    "Its name in scores and report; without it, the metric's own."
    chain: str | None = None
    "The chain of filters it judges, if there are several; without it, each of them."
    repeats: AnyRepeats | None = Field(None, exclude_if=lambda repeats: repeats is None)  # so that digests stay
    "How several answers to a request (`generation.samples`) are combined; without it, avg: their mean."

    @abc.abstractmethod
    def terms(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[list[float]]:
        """A row of numbers for each sample, all of one length."""

    @abc.abstractmethod
    def value(self, sums: "np.ndarray") -> float:
        """The value of samples whose terms have these sums."""

    def is_mean(self) -> bool:
        """Whether the value is the mean of the samples' scores, whose error bar is a formula."""
        return False

    def is_right_or_wrong(self) -> bool:
        """Whether the score of an answer is 1 or 0."""
        return False

    def statistic(self, answers: int) -> Repeats | None:
        """The way that `answers` answers to a request are combined; None if there is only one."""
        return None if answers == 1 else self.repeats or Average()

    def is_repeated(self, answers: int) -> bool:
        """Whether `repeats`, not the metric itself, decides how `answers` answers are combined."""
        return answers > 1

    def wanted(self) -> tuple[int, tuple[str, ...]]:
        """The fewest answers to a request that it needs, and the key that determines this."""
        return (self.repeats.wanted(), ("repeats", "k")) if self.repeats else (1, ())

    def title(self, answers: int) -> str:
        """The name of its value; for several answers, with how they were combined, unless the label says so."""
        name, statistic = self.label or self.name, self.statistic(answers)
        if statistic is None or not self.is_repeated(answers):
            return name
        title = statistic.title(answers)
        return name if re.search(rf"(?<![a-zA-Z\d]){re.escape(title)}(?!\d)", name) else f"{name} {title}"

    def ranking(self) -> Scoring | None:
        """How it ranks choices; None if as in the data set."""
        return None

    def check_machine(self) -> None:
        """Raise UserError if this machine lacks what its settings name; called while planning."""

    def check_targets(self, targets: list[str]) -> None:
        """Raise RenderError if a sample with these right answers cannot be judged; called before anything is asked."""


class Mean(Metric):
    """The mean of a score for each sample."""

    unanswered: ClassVar[str | None] = None

    @abc.abstractmethod
    def scores(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[float]:
        """A score for each sample."""

    def terms(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[list[float]]:
        return [[score, 1.0] for score in self.scores(predictions, references)]

    def value(self, sums: "np.ndarray") -> float:
        return float(sums[0] / sums[1])

    def is_mean(self) -> bool:
        return True


class Resampled(Metric):
    """A metric whose error bar comes from resampling."""

    resamples: int = Field(1000, ge=100, le=100_000)
    "How many times all samples are drawn with replacement; the draws are the same each time."


def check_one_target(metric: str, targets: Sequence[str]) -> None:
    """Raise RenderError for several right answers, of which the metric could only take the first."""
    from shardmark.untrusted.templates import RenderError

    if len(targets) > 1:
        what = f"metric {metric} takes one right answer, but the row has {len(targets)}"
        raise RenderError(what, "use another metric, or give one target", key="target")


class Labels(Resampled):
    """A function of how often each label was right, predicted, and both. The labels are those of the references."""

    reads: ClassVar[View] = "label"
    of_samples: ClassVar[bool] = False

    def terms(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[list[float]]:
        """Three numbers for each label. A prediction that is not a label is wrong."""
        import numpy as np

        place = {label: n for n, label in enumerate(sorted(set(references)))}
        counts = np.zeros((len(predictions), len(place), 3))
        for n, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
            counts[n, place[reference], 0] = 1
            if prediction in place:
                counts[n, place[prediction], 1] = 1
                counts[n, place[reference], 2] = prediction == reference
        return list(counts.reshape(len(predictions), -1).tolist())

    def check_targets(self, targets: list[str]) -> None:
        """Raise RenderError for several right labels: a table of counts has room for one."""
        check_one_target(self.name, targets)

    @staticmethod
    def counts(sums: "np.ndarray") -> tuple["np.ndarray", "np.ndarray", "np.ndarray"]:
        """For each label: how often it was right, predicted, and both."""
        right, predicted, both = sums.reshape(-1, 3).T
        return right, predicted, both
