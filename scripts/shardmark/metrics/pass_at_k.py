"""The metric pass_at_k (Chen et al. 2021, "Evaluating large language models trained on code")."""

import ast
import warnings
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from shardmark.metrics.base import Mean, Needs, View
from shardmark.metrics.repeats import Pass, Repeats


class PassAtK(Mean):
    """Chance that one of k generated programs passes the tests, which run in a sandbox (bubblewrap)."""

    protocol: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = frozenset({"generate"})
    needs: ClassVar[Needs] = Needs(sandbox=True)
    reads: ClassVar[View] = "program"
    unanswered: ClassVar[str | None] = ""

    name: Literal["pass_at_k"]
    k: PositiveInt = 1
    "One of how many programs; `generation.samples` must be at least that. `repeats` takes its place."
    timeout: PositiveFloat = Field(10.0, le=600)
    "Seconds of computing time that a program may take."
    memory_mb: PositiveInt = Field(1024, ge=64)
    "Megabytes that a program may take."

    @model_validator(mode="after")
    def _one_k(self) -> "PassAtK":
        if self.repeats and self.k != 1:
            raise ValueError("k without effect: repeats says what becomes of the answers, with a k of its own")
        return self

    def check_targets(self, targets: list[str]) -> None:
        """The targets must be a Python program: no answer could pass what is none."""
        from shardmark.untrusted.templates import RenderError

        try:
            with warnings.catch_warnings(action="ignore"):
                ast.parse("\n".join(targets))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            what = f"metric pass_at_k runs the target as tests, which are no Python: {error}"
            raise RenderError(what, "give code such as `assert f(1) == 2`", key="target") from error

    def is_right_or_wrong(self) -> bool:
        return True

    def statistic(self, answers: int) -> Repeats | None:
        return None if answers == 1 else self.repeats or Pass(name="pass", k=self.k)

    def wanted(self) -> tuple[int, tuple[str, ...]]:
        return super().wanted() if self.repeats else (self.k, ("k",))

    def is_repeated(self, answers: int) -> bool:
        return self.repeats is not None

    def scores(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        """A 1.0 for each program that passes its tests. Raises UserError where there is no sandbox."""
        from shardmark.untrusted.sandbox import Limits, run_programs

        verdicts = run_programs(zip(predictions, references, strict=True), Limits(self.timeout, self.memory_mb))
        return [float(verdict.passed) for verdict in verdicts]
