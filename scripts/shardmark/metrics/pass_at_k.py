"""pass@k of generated programs, as a local `evaluate` module: it is loaded by path and never fetched."""

from collections.abc import Sequence
from math import comb

import datasets

from shardmark.metrics import base


class PassAtK(base.Mean):
    """Chance that one of k programs passes the tests (Chen et al. 2021, "Evaluating large language models...").

    Its estimate from n programs of which c pass is 1 - C(n - c, k) / C(n, k).
    """

    reads = "programs"
    prediction = datasets.Sequence(base.TEXT)
    reference = base.TEXT

    def scores(
        self,
        predictions: Sequence[list[str]],
        references: Sequence[str],
        k: int = 1,
        timeout: float = 10.0,
        memory_mb: int = 1024,
    ) -> list[float]:
        """Raises UserError where there is no sandbox."""
        from shardmark.untrusted.sandbox import Limits, run_programs

        jobs = [
            (program, tests) for programs, tests in zip(predictions, references, strict=True) for program in programs
        ]
        verdicts = iter(run_programs(jobs, Limits(timeout, memory_mb)))
        counts = [(len(programs), sum(next(verdicts).passed for _ in programs)) for programs in predictions]
        return [1 - comb(n - passed, k) / comb(n, k) for n, passed in counts]
