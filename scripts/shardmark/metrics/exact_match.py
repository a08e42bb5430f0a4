"""The metric exact_match.

Its settings are those of `exact_match` on the Hub (Hugging Face evaluate 0.4), which lm-evaluation-harness follows, and
a tolerance for numbers.
"""

import re
import string
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from shardmark.metrics.base import Mean
from shardmark.settings import Pattern

if TYPE_CHECKING:
    from shardmark.texts.numbers import Amount

PERCENT = {"%", "percent", "per cent"}


class ExactMatch(Mean):
    """Share of samples whose answer equals the target, or one of the targets."""

    protocol: ClassVar[int] = 1

    name: Literal["exact_match"]
    ignore_case: bool = False
    "Ignore case."
    ignore_punctuation: bool = False
    "Remove ASCII punctuation before comparing."
    ignore_numbers: bool = False
    "Remove the digits 0 to 9 before comparing."
    ignore_patterns: list[Pattern] = Field(default=[])
    "Regular expressions whose matches are removed before anything else."
    tolerance: float | None = Field(None, ge=0)
    "Compare as numbers, which are equal if they differ by no more than this."

    def is_right_or_wrong(self) -> bool:
        return True

    def scores(self, predictions: Sequence[str], references: Sequence[list[str]]) -> list[float]:
        """A 1.0 or 0.0 for each sample.

        With `tolerance`, answers are compared as numbers, however they are written (see texts/numbers.py); the
        tolerance is exact, also for whole numbers of any size. Units are compared if both have one, and 50% equals 50
        and 0.5. Answers that are not a single number must be the same text. Raises BoundError for a pattern that takes
        too long.
        """
        from shardmark.texts.numbers import amount
        from shardmark.untrusted.limits import bounded

        within = None if self.tolerance is None else Fraction(str(self.tolerance))
        punctuation = string.punctuation if self.ignore_punctuation else ""
        dropped = str.maketrans("", "", punctuation + (string.digits if self.ignore_numbers else ""))

        def bare(text: str, item: int) -> str:
            if self.ignore_patterns:
                with bounded("ignore_patterns", item):
                    for pattern in self.ignore_patterns:
                        text = re.sub(pattern, "", text)
            text = text.translate(dropped)
            return text.casefold() if self.ignore_case else text

        def equal(answer: str, reference: str) -> bool:
            if within is None:
                return answer == reference
            a, b = amount(answer), amount(reference)
            return answer.strip() == reference.strip() if a is None or b is None else _close(a, b, within)

        return [
            float(any(equal(bare(answer, n), bare(r, n)) for r in right))
            for n, (answer, right) in enumerate(zip(predictions, references, strict=True))
        ]


def _close(a: "Amount", b: "Amount", tolerance: Fraction) -> bool:
    if a.unit and b.unit and a.unit != b.unit:
        return False
    values = {a.value, a.value / 100} if a.unit in PERCENT and not b.unit else {a.value}
    others = {b.value, b.value / 100} if b.unit in PERCENT and not a.unit else {b.value}
    return any(abs(one - other) <= tolerance for one in values for other in others)
