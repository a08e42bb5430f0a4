"""The smallest difference between two models that a number of samples can show.

A test at the 5% level detects a difference of (z(0.975) + z(0.8)) standard errors in 80 of 100 samples of that size (J.
Cohen, "Statistical power analysis for the behavioral sciences", 1988; E. Miller, "Adding error bars to evals", 2024,
section 5).
"""

from math import sqrt
from statistics import NormalDist

LEVEL = 0.05
"The level of tests: how often chance alone may make a difference significant."
POWER = 0.8
"How often a test is to detect the smallest difference that is said to be shown."
STEPS = NormalDist().inv_cdf(1 - LEVEL / 2) + NormalDist().inv_cdf(POWER)
"That difference in standard errors: 2.80."
UNRELATED = sqrt(0.5)
"""The standard deviation of the difference of two unrelated answers, each of which is right half of the time: no two
equally good models differ more often."""


def smallest_difference(samples: float, deviation: float = UNRELATED) -> float:
    """The smallest difference of two models that this many samples show, as a fraction; at most 1.

    `deviation` is the standard deviation of the differences of the samples' scores; for shares that are not known yet,
    its largest possible value is assumed. Models that are mostly right on the same samples differ by less than that,
    and then less can be shown. Raises ValueError without samples.
    """
    if samples <= 0:
        raise ValueError("no samples to show a difference with")
    return min(1.0, STEPS * deviation / sqrt(samples))
