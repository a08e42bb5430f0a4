"""The metric math_equivalence, by math-verify."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from shardmark.metrics.base import Mean, Needs


class MathEquivalence(Mean):
    """Share of samples whose answer means the same number or formula as a target, by math-verify."""

    protocol: ClassVar[int] = 8
    kinds: ClassVar[frozenset[str]] = frozenset({"generate"})
    needs: ClassVar[Needs] = Needs(packages=("math-verify", "latex2sympy2-extended", "sympy"))
    finds_answers: ClassVar[bool] = True

    name: Literal["math_equivalence"]

    def is_right_or_wrong(self) -> bool:
        return True

    def scores(self, predictions: Sequence[str], references: Sequence[list[str]]) -> list[float]:
        """A 1.0 or 0.0 for each sample. 1/2, 0.5 and $\\frac{1}{2}$ are equal.

        math-verify drops words; here 5 million is 5000000, and units, directions and times of day of both must agree.
        """
        from shardmark.metrics.math_process import MathProcess

        with MathProcess() as process:
            return [
                float(any(process.equal(answer, r) for r in right))
                for answer, right in zip(predictions, references, strict=True)
            ]
