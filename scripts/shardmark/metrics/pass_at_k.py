"""The metric pass_at_k (Chen et al. 2021, "Evaluating large language models trained on code")."""

import ast
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from shardmark.errors import Problem, UserError
from shardmark.metrics.base import Mean, Needs, View
from shardmark.metrics.repeats import Pass, Repeats
from shardmark.untrusted.cases import read_cases, tests_of


class PassAtK(Mean):
    """Chance that at least one of k generated programs passes the tests, which run in a sandbox (bubblewrap)."""

    protocol: ClassVar[int] = 1
    kinds: ClassVar[frozenset[str]] = frozenset({"generate"})
    needs: ClassVar[Needs] = Needs(sandbox=True)
    reads: ClassVar[View] = "program"
    unanswered: ClassVar[str | None] = ""

    name: Literal["pass_at_k"]
    k: PositiveInt = 1
    "The number of programs; `generation.samples` must be at least that. `repeats` replaces it."
    timeout: PositiveFloat = Field(10.0, le=600)
    "Seconds of computing time that a program may take."
    memory_mb: PositiveInt = Field(1024, ge=64)
    "Megabytes of memory that a program may take."
    cases: bool = Field(False, exclude_if=lambda cases: not cases)  # so that digests stay
    "Whether targets are JSON of contest cases, {cases: [{input, output}], function: NAME}, with the timeout for each."

    python: str | None = Field(None, min_length=1, exclude_if=lambda python: python is None)
    """An interpreter with the packages of programs and tests, which then run together, in one process: the tests are
    unittest's TestCases, and a program could deceive them."""

    @model_validator(mode="after")
    def _one_k(self) -> "PassAtK":
        if self.repeats and self.k != 1:
            raise ValueError("k has no effect: repeats combines the answers, with its own k")
        if self.cases and self.python:
            raise ValueError("cases and python exclude each other: an interpreter with packages runs TestCases")
        return self

    def check_machine(self) -> None:
        from shardmark.untrusted.bwrap import prefixes

        if self.python:
            prefixes(self.python)

    def check_targets(self, targets: list[str]) -> None:
        """Raise RenderError unless the targets are tests that can run in the sandbox: no answer could pass others."""
        from shardmark.untrusted.templates import RenderError

        tests = "\n".join(targets)
        if self.cases:
            try:
                read_cases(tests)
            except ValueError as error:
                what = f"metric pass_at_k runs the target's cases, but it is not JSON of cases: {error}"
                raise RenderError(what, "give {'cases': [...], 'function': none} | tojson", key="target") from error
            return
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(tests)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            what = f"metric pass_at_k runs the target as tests, but it is not Python: {error}"
            raise RenderError(what, "give code such as `assert f(1) == 2`", key="target") from error
        if self.python and os.path.exists(self.python):  # else planning refuses it, and `prompts` needs none
            try:
                self._check_modules(tests, inside=False)
            except UserError as error:
                (problem,) = error.problems
                raise RenderError(problem.what, problem.fix, key="metrics") from error
        if self.python:
            return
        if foreign := sorted(_imported(tree.body) - sys.stdlib_module_names):
            what = f"the tests import {', '.join(foreign)}, but the sandbox has only Python's own modules"
            fix = "leave such rows out with `where`, avoid the imports in `target`, or name a `python` that has them"
            raise RenderError(what, fix, key="target")

    def is_right_or_wrong(self) -> bool:
        return True

    def statistic(self, answers: int) -> Repeats | None:
        return None if answers == 1 else self.repeats or Pass(name="pass", k=self.k)

    def wanted(self) -> tuple[int, tuple[str, ...]]:
        return super().wanted() if self.repeats else (self.k, ("k",))

    def is_repeated(self, answers: int) -> bool:
        return self.repeats is not None

    def scores(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        """A 1.0 for each program that passes its tests, else 0.0. Raises UserError if there is no sandbox."""
        from shardmark.untrusted.sandbox import Limits, run_programs

        jobs = [(program, *self._tests(target)) for program, target in zip(predictions, references, strict=True)]
        if self.python:
            self._check_modules("\n".join(dict.fromkeys(tests for _, tests, _ in jobs)), inside=True)
        passed: dict[tuple[str, str], float] = {}
        for count in sorted({count for _, _, count in jobs}):
            given = [(program, tests) for program, tests, of in jobs if of == count]
            verdicts = run_programs(given, Limits(self.timeout * count, self.memory_mb, self.python or ""))
            passed |= {job: float(verdict.passed) for job, verdict in zip(given, verdicts, strict=True)}
        return [passed[program, tests] for program, tests, _ in jobs]

    def _tests(self, target: str) -> tuple[str, int]:
        """The tests in a target, and how many timeouts they may take together."""
        return tests_of(target, self.timeout) if self.cases else (target, 1)

    def _check_modules(self, tests: str, inside: bool) -> None:
        """Raise UserError for modules that tests import, and the interpreter does not have."""
        from shardmark.untrusted.sandbox import absent_modules

        assert self.python
        names = sorted(_imported(ast.walk(ast.parse(tests))))
        if absent := absent_modules(self.python, names, inside):
            what = f"the tests need {', '.join(absent)}, which {self.python} does not have"
            fix = "install them there, or leave such rows out with `where`"
            raise UserError(Problem("metric pass_at_k", "python", what, fix))


def _imported(nodes: Iterable[ast.AST]) -> set[str]:
    """The modules that these statements import."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found
