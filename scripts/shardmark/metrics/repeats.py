"""Combine several answers to a request into the value of their sample.

A sample is one question, however many answers it gets: these give it one value, so that means and error bars count
questions. The value of k answers, estimated from n >= k of them, is the mean over all subsets of k, without bias.
"""

import abc
from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import ceil, comb, fsum
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, PositiveInt
from typing_extensions import TypeAliasType

from shardmark.filters.base import Answers
from shardmark.filters.majority_vote import most_frequent
from shardmark.settings import Settings


def chance(n: int, right: int, k: int, counts: Iterable[int]) -> float:
    """The chance that, of k answers drawn from n without replacement, the number of right ones is in `counts`.

    `right` of the n are right, and k is at most n.
    """
    return sum(comb(right, j) * comb(n - right, k - j) for j in counts if 0 <= j <= k) / comb(n, k)


class Repeats(Settings, abc.ABC):
    """A way to combine the n answers to a request."""

    right_or_wrong: ClassVar[bool] = False
    "Whether it counts right answers, so that each must score 1 or 0."
    name: str

    def wanted(self) -> int:
        """The fewest answers that it needs."""
        return 1

    @abc.abstractmethod
    def title(self, n: int) -> str:
        """Its name as part of a score's name."""

    def judged(self, answers: Answers) -> Answers:
        """The answers that the metric judges."""
        return answers

    @abc.abstractmethod
    def value(self, scores: Sequence[float]) -> float:
        """The value of a sample whose judged answers have these scores."""


class Average(Repeats):
    """The mean over all answers; for a metric of all samples, over its values of the first answers, and so on."""

    name: Literal["avg"] = "avg"

    def title(self, n: int) -> str:
        return f"avg@{n}"

    def value(self, scores: Sequence[float]) -> float:
        return fsum(scores) / len(scores)


class OfK(Repeats):
    """A way to combine k answers."""

    k: PositiveInt | None = None
    "The number of answers; without it, all."

    def wanted(self) -> int:
        return self.k or 1

    def size(self, n: int) -> int:
        """The number of answers that it combines, out of n."""
        return self.k or n


class Majority(OfK):
    """The most frequent of the first k answers, after filters, is judged.

    If several are equally frequent, the first of these; answers that were not found have no vote.
    """

    name: Literal["maj"]
    tolerance: float | None = Field(None, ge=0)
    "Numbers that differ by no more than this count as the same answer, spelt as at first."

    def title(self, n: int) -> str:
        return f"maj@{self.size(n)}"

    def judged(self, answers: Answers) -> Answers:
        return [most_frequent(answers[: self.size(len(answers))], self.tolerance)]

    def value(self, scores: Sequence[float]) -> float:
        (score,) = scores
        return score


class Counted(OfK):
    """A function of the number of right answers."""

    right_or_wrong: ClassVar[bool] = True

    def value(self, scores: Sequence[float]) -> float:
        return self.of_counts(len(scores), scores.count(1.0), self.size(len(scores)))

    @abc.abstractmethod
    def of_counts(self, n: int, right: int, k: int) -> float:
        """The value of k answers, estimated from n of which `right` are right."""


class Pass(Counted):
    """pass@k: the chance that at least one of k answers is right (Chen et al. 2021, arXiv:2107.03374)."""

    name: Literal["pass"]

    def title(self, n: int) -> str:
        return f"pass@{self.size(n)}"

    def of_counts(self, n: int, right: int, k: int) -> float:
        return 1 - chance(n, right, k, [0])


class All(Counted):
    """pass^k: the chance that all of k answers are right (Yao et al. 2024, arXiv:2406.12045)."""

    name: Literal["all"]

    def title(self, n: int) -> str:
        return f"pass^{self.size(n)}"

    def of_counts(self, n: int, right: int, k: int) -> float:
        return chance(n, right, k, [k])


class GPass(Counted):
    """G-Pass@k: the chance that at least threshold * k of k answers are right (Liu et al. 2024, arXiv:2412.13147)."""

    name: Literal["g_pass"]
    threshold: float = Field(gt=0, le=1)
    "The share of the k answers that must be right."

    def title(self, n: int) -> str:
        return f"G-Pass@{self.size(n)}_{self.threshold:g}"

    def of_counts(self, n: int, right: int, k: int) -> float:
        return chance(n, right, k, range(ceil(Fraction(str(self.threshold)) * k), k + 1))


class MeanGPass(Counted):
    """mG-Pass@k: G-Pass@k's mean over thresholds from above 0.5 to 1 (Liu et al. 2024)."""

    name: Literal["mg_pass"]
    k: PositiveInt | None = Field(None, ge=2)
    "The number of answers; without it, all."

    def title(self, n: int) -> str:
        return f"mG-Pass@{self.size(n)}"

    def of_counts(self, n: int, right: int, k: int) -> float:
        return 2 / k * fsum(chance(n, right, k, range(i, k + 1)) for i in range(ceil(k / 2) + 1, k + 1))


def _named(value: object) -> object:
    """Replace a name alone by a section with that name."""
    return {"name": value} if isinstance(value, str) else value


Statistic = Annotated[Average | Majority | Pass | All | GPass | MeanGPass, Field(discriminator="name")]
Name = Literal["avg", "maj", "pass", "all", "mg_pass"]
"The names of those that need no settings."
AnyRepeats = TypeAliasType(
    "AnyRepeats", Annotated[Statistic, BeforeValidator(_named, json_schema_input_type=Statistic | Name)]
)
STATISTICS: dict[str, type[Repeats]] = {
    name: kind for kind in get_args(get_args(Statistic)[0]) for name in get_args(kind.model_fields["name"].annotation)
}
"The classes by name."
