"""The metric exact_match.

Its settings are those of `exact_match` on the Hub (Hugging Face evaluate 0.4), which lm-evaluation-harness follows, and
a tolerance for numbers.
"""

import re
import string
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar, Literal

from pydantic import Field

from shardmark.metrics.base import Mean
from shardmark.settings import Pattern


class ExactMatch(Mean):
    """Share of samples whose answer equals the target, or one of the targets."""

    protocol: ClassVar[int] = 4

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

    def ignores(self) -> bool:
        """Whether different texts may be equal, other than as numbers."""
        return bool(self.ignore_case or self.ignore_punctuation or self.ignore_numbers or self.ignore_patterns)

    def is_right_or_wrong(self) -> bool:
        return True

    def scores(self, predictions: Sequence[str], references: Sequence[list[str]]) -> list[float]:
        """A 1.0 or 0.0 for each sample.

        With `tolerance`, answers are compared as numbers, however they are written (see texts/numbers.py); the
        tolerance is exact, also for whole numbers of any size. What is ignored is removed from other texts only: the
        punctuation of a number is its sign and its decimals. Answers that are not a single number must be the same
        text; characters that look the same are (see `as_seen`). Raises BoundError for a pattern that takes too long.
        """
        from shardmark.texts.numbers import amount
        from shardmark.texts.words import as_seen
        from shardmark.untrusted.limits import bounded

        within = None if self.tolerance is None else Fraction(str(self.tolerance))
        punctuation = string.punctuation if self.ignore_punctuation else ""
        dropped = str.maketrans("", "", punctuation + (string.digits if self.ignore_numbers else ""))

        def read(text: str, item: int) -> str:
            if self.ignore_patterns:
                with bounded("ignore_patterns", item):
                    for pattern in self.ignore_patterns:
                        text = re.sub(pattern, "", text)
            return as_seen(text)

        def bare(text: str) -> str:
            text = text.translate(dropped)
            return text.casefold() if self.ignore_case else text

        def equal(answer: str, reference: str) -> bool:
            if within is None:
                return bare(answer) == bare(reference)
            a, b = amount(answer), amount(reference)
            return a.is_close(b, within) if a and b else bare(answer).strip() == bare(reference).strip()

        return [
            float(any(equal(read(answer, n), read(r, n)) for r in right))
            for n, (answer, right) in enumerate(zip(predictions, references, strict=True))
        ]
