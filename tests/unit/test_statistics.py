"""Error bars against scipy and the formulas they come from."""

import json
import math
import random

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

from projects import property_test
from shardmark.records.base import to_json
from shardmark.scoring.statistics import (
    Estimate,
    estimate_by_draws,
    estimate_mean,
    estimate_of_order,
    interval_of_mean,
)

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
    assert estimate.stderr == pytest.approx(float(scipy.stats.sem(samples)), abs=1e-12)
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
    half = scipy.stats.t.ppf(0.975, len(samples) - 1) * scipy.stats.sem(samples)
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
    found = to_json(Estimate(0.5, 0.1, (0.4, 0.6), 9).metric(higher_is_better=True, percent=False))
    assert json.loads(json.dumps(found)) == {
        "value": 0.5,
        "stderr": 0.1,
        "ci95": [0.4, 0.6],
        "n": 9,
        "higher_is_better": True,
        "percent": False,
    }
    assert Estimate(0.5, None, None, 1).metric(higher_is_better=True, percent=True).ci95 is None


# Clusters

clustered = st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcdefgh")), min_size=3, max_size=40).filter(
    lambda rows: len({name for _, name in rows}) > 1
)


@property_test
@given(clustered)
def test_clustered_standard_errors_are_those_of_statsmodels(rows: list[tuple[float, str]]) -> None:
    import statsmodels.api as sm

    samples, names = map(list, zip(*rows, strict=True))
    groups = np.unique(names, return_inverse=True)[1]
    fitted = sm.OLS(samples, np.ones(len(samples))).fit(cov_type="cluster", cov_kwds={"groups": groups})
    estimate = estimate_mean(samples, names)
    assert estimate.stderr == pytest.approx(float(fitted.bse[0]), abs=1e-9)
    assert estimate.clusters == len(set(names))


@property_test
@given(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=2, max_size=20))
def test_samples_that_are_clusters_of_their_own_are_independent(samples: list[float]) -> None:
    plain, alone = estimate_mean(samples), estimate_mean(samples, [str(n) for n in range(len(samples))])
    assert alone.stderr == pytest.approx(plain.stderr)
    assert alone.ci95 == pytest.approx(plain.ci95)


def test_equal_samples_of_a_cluster_count_once() -> None:
    once, thrice = estimate_mean([0.0, 1.0, 1.0, 0.5]), estimate_mean([0.0, 1.0, 1.0, 0.5] * 3, list("abcd") * 3)
    assert (thrice.stderr, thrice.ci95) == (pytest.approx(once.stderr), pytest.approx(once.ci95))
    assert (thrice.n, thrice.clusters) == (12, 4)


def test_right_and_wrong_in_clusters_is_not_certain_either() -> None:
    assert estimate_mean([1.0] * 20, list("abcd") * 5).ci95 == pytest.approx(estimate_mean([1.0] * 4).ci95)
    assert estimate_mean([1.0, 1.0], ["a", "a"]).stderr is None


@pytest.mark.parametrize(("clusters", "share"), [(4, 0.8), (8, 0.5), (8, 0.8), (20, 0.8), (50, 0.5)])
def test_intervals_of_shares_in_clusters_cover_as_often_as_they_say(clusters: int, share: float) -> None:
    """Clusters of ten samples whose chance of being right varies: correlated by 0.2."""
    random, covered = np.random.default_rng(1), 0
    names = [str(n // 10) for n in range(10 * clusters)]
    for _ in range(400):
        chances = random.beta(4 * share, 4 * (1 - share), clusters)
        samples = (random.random(10 * clusters) < chances.repeat(10)).astype(float)
        low, high = estimate_mean(list(samples), names).ci95 or (0, 0)
        covered += low <= share <= high
    assert covered >= 0.92 * 400


# Drawing again


def mean_of(sums: np.ndarray) -> float:
    return float(sums[0] / sums[1])


def test_draws_are_those_of_pythons_random_and_so_of_lm_eval() -> None:
    samples = [0.0, 1.0, 0.5, 2.0, 7.0]
    first, second = random.Random(0), random.Random(1)
    drawn = [np.mean((first if n < 1000 else second).choices(samples, k=5)) for n in range(1200)]
    estimate = estimate_by_draws([[x, 1.0] for x in samples], mean_of, 1200)
    assert estimate.stderr == pytest.approx(np.std(drawn, ddof=1))
    assert estimate.ci95 == pytest.approx(np.quantile(drawn, [0.025, 0.975]))
    assert (estimate.value, estimate.n, estimate.interval) == (2.1, 5, "bootstrap")


def test_the_median_of_draws_is_that_of_each_draw() -> None:
    samples = [3.0, 1.0, 7.0, 1.0, 5.0]
    draw = random.Random(0)
    drawn = [sorted(draw.choices(samples, k=5))[2] for _ in range(500)]
    estimate = estimate_of_order(samples, 2, 500)
    assert (estimate.value, estimate.stderr) == (3.0, pytest.approx(np.std(drawn, ddof=1)))
    assert estimate_of_order([4.0], 0, 500).stderr is None


def test_an_interval_of_draws_is_near_that_of_scipy() -> None:
    numbers = np.random.default_rng(3).gamma(2.0, size=200)
    ours = estimate_by_draws([[x, 1.0] for x in numbers], lambda sums: math.exp(-mean_of(sums)), 4000)
    theirs = scipy.stats.bootstrap(
        (numbers,), lambda x, axis: np.exp(-x.mean(axis)), n_resamples=4000, method="percentile", rng=1
    )
    assert ours.ci95 == pytest.approx(tuple(theirs.confidence_interval), rel=0.03)
    assert ours.stderr == pytest.approx(theirs.standard_error, rel=0.05)


def test_clusters_are_drawn_whole() -> None:
    rows, names = [[x, 1.0] for x in (0.0, 1.0, 3.0)] * 4, list("abc") * 4
    whole = estimate_by_draws(rows, mean_of, 500, names)
    assert whole.stderr == estimate_by_draws([[x * 4, 4.0] for x in (0.0, 1.0, 3.0)], mean_of, 500).stderr
    assert (whole.n, whole.clusters) == (12, 3)
    assert estimate_by_draws(rows, mean_of, 500, ["a"] * 12).ci95 is None


def test_a_draw_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        estimate_by_draws([], mean_of, 100)


def test_an_interval_of_a_mean_is_that_of_its_error_where_intervals_are_symmetric() -> None:
    low, high = interval_of_mean([0.5, 0.7], [(0.5 - 0.03, 0.5 + 0.03), (0.7 - 0.04, 0.7 + 0.04)], [1, 1])
    assert (low, high) == pytest.approx((0.6 - 0.025, 0.6 + 0.025))


def test_an_interval_of_a_mean_of_shares_covers_as_often_as_it_says() -> None:
    shares, sizes, covered = (0.97, 0.9, 1.0), (10, 20, 15), 0
    drawn = np.random.default_rng(0).binomial(sizes, shares, size=(1000, 3))
    for right in drawn:
        parts = [estimate_mean([1.0] * int(k) + [0.0] * int(n - k)) for k, n in zip(right, sizes, strict=True)]
        low, high = interval_of_mean([p.value for p in parts], [p.ci95 for p in parts if p.ci95], [1, 1, 1])
        covered += low <= sum(shares) / 3 <= high
    assert covered >= 940


def test_intervals_of_shares_do_not_reach_beyond_them() -> None:
    few = estimate_mean([0.0, 0.0, 0.07])
    assert few.ci95
    assert few.ci95[0] < 0
    kept = [few.metric(higher_is_better=True, percent=percent).ci95 for percent in (True, False)]
    assert kept == [(0.0, few.ci95[1]), few.ci95]


def test_what_json_cannot_say_is_none() -> None:
    found = Estimate(math.inf, math.nan, (math.nan, math.nan), 3, "bootstrap").metric(
        higher_is_better=True, percent=True
    )
    assert (found.value, found.stderr, found.ci95, found.n, found.interval) == (None, None, None, 3, "bootstrap")
