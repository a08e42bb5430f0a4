"""Exact match of answers, as a local `evaluate` module: it is loaded by path and never fetched.

Its options are those of `exact_match` on the Hub (Hugging Face evaluate 0.4), which lm-evaluation-harness follows, and
a tolerance for numbers.
"""

import re
import string
from collections.abc import Sequence
from fractions import Fraction

from shardmark.metrics import base
from shardmark.texts.numbers import Amount, amount
from shardmark.untrusted.limits import bounded

PERCENT = {"%", "percent", "per cent"}


class ExactMatch(base.Mean):
    """Share of samples whose answer equals one of its references."""

    def scores(
        self,
        predictions: Sequence[str],
        references: Sequence[list[str]],
        ignore_case: bool = False,
        ignore_punctuation: bool = False,
        ignore_numbers: bool = False,
        ignore_patterns: Sequence[str] = (),
        tolerance: float | None = None,
    ) -> list[float]:
        """A 1.0 or 0.0 for each sample.

        With `tolerance` answers are compared as numbers, however these are written (see `numbers`); the tolerance is
        exact, as for whole numbers of any size. A unit counts where both have one, and 50% is 50 and 0.5. What is no
        single number must be the same text. Raises BoundError for a pattern that takes too long.
        """
        within = None if tolerance is None else Fraction(str(tolerance))
        dropped = (string.punctuation if ignore_punctuation else "") + (string.digits if ignore_numbers else "")

        def bare(text: str, item: int) -> str:
            if ignore_patterns:
                with bounded("ignore_patterns", item):
                    for pattern in ignore_patterns:
                        text = re.sub(pattern, "", text)
            text = text.translate(str.maketrans("", "", dropped))
            return text.casefold() if ignore_case else text

        def equal(answer: str, reference: str) -> bool:
            if within is None:
                return answer == reference
            a, b = amount(answer), amount(reference)
            return answer.strip() == reference.strip() if a is None or b is None else _close(a, b, within)

        return [
            float(any(equal(bare(answer, n), bare(r, n)) for r in right))
            for n, (answer, right) in enumerate(zip(predictions, references, strict=True))
        ]


def _close(a: Amount, b: Amount, tolerance: Fraction) -> bool:
    if a.unit and b.unit and a.unit != b.unit:
        return False
    values = {a.value, a.value / 100} if a.unit in PERCENT and not b.unit else {a.value}
    others = {b.value, b.value / 100} if b.unit in PERCENT and not a.unit else {b.value}
    return any(abs(one - other) <= tolerance for one in values for other in others)
