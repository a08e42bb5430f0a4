"""Exact match of answers, as a local `evaluate` module: it is loaded by path and never fetched.

Its options are those of `exact_match` on the Hub (Hugging Face evaluate 0.4), which lm-evaluation-harness follows, and
a tolerance for numbers.
"""

import re
import string
from collections.abc import Sequence

from shardmark.metrics import base
from shardmark.tasks.limits import bounded


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

        With `tolerance` answers are compared as numbers (thousands separators and $ don't count). Raises BoundError for
        a pattern that takes too long.
        """
        dropped = (string.punctuation if ignore_punctuation else "") + (string.digits if ignore_numbers else "")

        def bare(text: str, item: int) -> str:
            if ignore_patterns:
                with bounded("ignore_patterns", item):
                    for pattern in ignore_patterns:
                        text = re.sub(pattern, "", text)
            text = text.translate(str.maketrans("", "", dropped))
            return text.casefold() if ignore_case else text

        def equal(answer: str, reference: str) -> bool:
            if tolerance is not None:
                a, b = _number(answer), _number(reference)
                return a is not None and b is not None and abs(a - b) <= tolerance
            return answer == reference

        return [
            float(any(equal(bare(answer, n), bare(r, n)) for r in right))
            for n, (answer, right) in enumerate(zip(predictions, references, strict=True))
        ]


def _number(text: str) -> float | None:
    try:
        return float(text.replace("$", "").replace(",", ""))
    except ValueError:
        return None
