"""The filter majority_vote."""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, Literal

from pydantic import Field

from shardmark.filters.base import Answers, Filter


class MajorityVote(Filter):
    """Of several answers to a request, the most frequent one; the first of these if there are several."""

    protocol: ClassVar[int] = 2
    name: Literal["majority_vote"]
    tolerance: float | None = Field(None, ge=0)
    "Numbers that differ by no more than this count as the same answer, spelt as at first."

    def apply(self, answers: Answers, row: Mapping[str, Any], opened: Sequence[str]) -> Answers:
        """Answers that were not found have no vote."""
        return [most_frequent(answers, self.tolerance)]

    def left(self, answers: int) -> int:
        return 1


def most_frequent(answers: Answers, tolerance: float | None) -> str | None:
    """The most frequent answer that was found, the first of these if there are several; None if none was found."""
    votes = Counter(_alike([answer for answer in answers if answer is not None], tolerance))
    return votes.most_common(1)[0][0] if votes else None


def _alike(answers: list[str], tolerance: float | None) -> list[str]:
    """The answers, each replaced by the first one that equals it."""
    from shardmark.texts.numbers import Amount, amount

    if tolerance is None:
        return answers
    within = Fraction(str(tolerance))
    firsts: dict[str, Amount] = {}
    same: list[str] = []
    for answer in answers:
        found = amount(answer)
        near = (first for first, other in firsts.items() if found and found.is_close(other, within))
        first = next(near, answer)
        if first == answer and found:
            firsts.setdefault(answer, found)
        same.append(first)
    return same
