"""Error bars of a mean over samples."""

import math
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over samples with its uncertainty; fractions, not percent."""

    value: float
    stderr: float | None
    "Sample standard deviation (n - 1) over the root of n, as lm-evaluation-harness gives it; None for one sample."
    ci95: tuple[float, float] | None
    "The 95% confidence interval."
    n: int

    def as_json(self) -> dict[str, Any]:
        """For a score file."""
        return {"value": self.value, "stderr": self.stderr, "ci95": self.ci95 and list(self.ci95), "n": self.n}


def estimate_mean(samples: list[float]) -> Estimate:
    """The mean of per-sample scores.

    Scores that are all 0 or 1 get Wilson's interval (E. B. Wilson, JASA 22, 1927), which stays honest near 0 and 1,
    where the standard error vanishes; others get Student's t interval. Raises ValueError without samples.
    """
    from scipy import stats  # 1 s: only where scores are made

    n = len(samples)
    if not n:
        raise ValueError("no samples to average")
    mean = math.fsum(samples) / n
    stderr = math.sqrt(math.fsum((x - mean) ** 2 for x in samples) / (n - 1) / n) if n > 1 else None
    if all(x in (0.0, 1.0) for x in samples):
        low, high = stats.binomtest(round(sum(samples)), n).proportion_ci(CONFIDENCE, method="wilson")
        interval = (float(low), float(high))
    elif stderr is None:
        interval = None
    else:
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * stderr
        interval = (mean - half, mean + half)
    return Estimate(mean, stderr, interval, n)
