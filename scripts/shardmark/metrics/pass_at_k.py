"""The metric pass_at_k (Chen et al. 2021, "Evaluating large language models trained on code")."""

import ast
import warnings
from collections.abc import Sequence
from math import comb
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from shardmark.metrics.base import Mean, Needs, View


class PassAtK(Mean):
    """Chance that one of k generated programs passes the tests, which run in a sandbox (bubblewrap)."""

    protocol: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = frozenset({"generate"})
    needs: ClassVar[Needs] = Needs(sandbox=True)
    reads: ClassVar[View] = "programs"

    name: Literal["pass_at_k"]
    k: PositiveInt = 1
    "How many of the answers to a request; `generation.samples` must be at least that."
    timeout: PositiveFloat = Field(10.0, le=600)
    "Seconds of computing time that a program may take."
    memory_mb: PositiveInt = Field(1024, ge=64)
    "Megabytes that a program may take."

    def answers(self) -> int:
        return self.k

    def check_targets(self, targets: list[str]) -> None:
        """The targets must be a Python program: no answer could pass what is none."""
        from shardmark.untrusted.templates import RenderError

        try:
            with warnings.catch_warnings(action="ignore"):
                ast.parse("\n".join(targets))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            what = f"metric pass_at_k runs the target as tests, which are no Python: {error}"
            raise RenderError(what, "give code such as `assert f(1) == 2`", key="target") from error

    def scores(self, predictions: Sequence[list[str]], references: Sequence[str]) -> list[float]:
        """The estimate from n programs of which c pass is 1 - C(n - c, k) / C(n, k).

        Raises UserError where there is no sandbox.
        """
        from shardmark.untrusted.sandbox import Limits, run_programs

        jobs = [
            (program, tests) for programs, tests in zip(predictions, references, strict=True) for program in programs
        ]
        verdicts = iter(run_programs(jobs, Limits(self.timeout, self.memory_mb)))
        counts = [(len(programs), sum(next(verdicts).passed for _ in programs)) for programs in predictions]
        return [1 - comb(n - passed, self.k) / comb(n, self.k) for n, passed in counts]
