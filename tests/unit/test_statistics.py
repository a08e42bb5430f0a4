"""Error bars against scipy and the formulas they come from."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shardmark.metrics.statistics import Estimate, estimate_mean

Z = 1.959963984540054
"The 97.5% point of the normal distribution."

outcomes = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=50)
fractions = st.lists(st.floats(0, 1), min_size=2, max_size=50)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The interval's closed form."""
    share = hits / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


@given(fractions)
def test_the_standard_error_is_that_of_scipy(samples: list[float]) -> None:
    estimate = estimate_mean(samples)
    assert estimate.value == pytest.approx(math.fsum(samples) / len(samples))
    assert estimate.stderr == pytest.approx(float(stats.sem(samples)), abs=1e-12)
    assert estimate.n == len(samples)


@given(outcomes)
def test_right_and_wrong_get_wilsons_interval(samples: list[float]) -> None:
    assert estimate_mean(samples).ci95 == pytest.approx(wilson(int(sum(samples)), len(samples)), abs=1e-9)


@given(fractions.filter(lambda samples: not set(samples) <= {0.0, 1.0}))
def test_other_scores_get_students_interval(samples: list[float]) -> None:
    estimate = estimate_mean(samples)
    assert estimate.ci95 is not None
    low, high = estimate.ci95
    assert low <= estimate.value <= high
    half = stats.t.ppf(0.975, len(samples) - 1) * stats.sem(samples)
    assert high - low == pytest.approx(2 * half, abs=1e-9)


def test_a_known_interval() -> None:
    low, high = estimate_mean([1.0] * 8 + [0.0] * 2).ci95 or (0, 0)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)


def test_all_right_is_not_certain() -> None:
    estimate = estimate_mean([1.0] * 20)
    assert (estimate.value, estimate.stderr) == (1.0, 0.0)
    assert estimate.ci95 == pytest.approx((0.8389, 1.0), abs=1e-4)


def test_all_wrong_is_not_certain() -> None:
    assert estimate_mean([0.0] * 20).ci95 == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_one_sample_has_no_standard_error() -> None:
    right, half = estimate_mean([1.0]), estimate_mean([0.5])
    assert (right.value, right.stderr, right.n) == (1.0, None, 1)
    assert right.ci95 == pytest.approx((0.2065, 1.0), abs=1e-4)
    assert half == Estimate(0.5, None, None, 1)


def test_equal_fractions_have_no_spread() -> None:
    assert estimate_mean([0.25, 0.25, 0.25]) == Estimate(0.25, 0.0, (0.25, 0.25), 3)


def test_an_average_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        estimate_mean([])


def test_a_score_file_holds_the_interval_as_a_list() -> None:
    assert Estimate(0.5, 0.1, (0.4, 0.6), 9).as_json() == {"value": 0.5, "stderr": 0.1, "ci95": [0.4, 0.6], "n": 9}
    assert Estimate(0.5, None, None, 1).as_json()["ci95"] is None
