"""Equal numbers and formulas by math-verify, as a local `evaluate` module: it is loaded by path and never fetched."""

from collections.abc import Sequence
from typing import Any

from shardmark.metrics import base


class MathEquivalence(base.Mean):
    """Share of samples whose answer means the same as a reference: 1/2, 0.5 and $\\frac{1}{2}$ do."""

    packages = ("math-verify", "latex2sympy2-extended", "sympy")

    def scores(self, predictions: Sequence[str], references: Sequence[list[str]], **options: Any) -> list[float]:
        from shardmark.metrics.math_process import MathProcess

        with MathProcess() as process:
            return [
                float(any(process.equal(answer, r) for r in right))
                for answer, right in zip(predictions, references, strict=True)
            ]
