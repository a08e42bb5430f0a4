"""Models compared on the same samples: against scipy, statsmodels, published tables and all tosses counted."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardmark.power import STEPS, smallest_difference
from shardmark.scoring.comparisons import (
    compare,
    compare_all,
    holm,
    holm_of_pairs,
    independent,
    mcnemar,
    mean_table,
    sign_flips,
)

SCORES = st.lists(st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 1.0])] * 2), min_size=2, max_size=30)


def cells(wins: int, losses: int, ties: int) -> tuple[list[float], list[float]]:
    return [1.0] * wins + [0.0] * losses + [1.0] * ties, [0.0] * wins + [1.0] * losses + [1.0] * ties


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (9, 2), (5, 5), (26, 4), (400, 310)])
def test_right_and_wrong_are_tested_as_by_statsmodels(wins: int, losses: int) -> None:
    from statsmodels.stats.contingency_tables import mcnemar as theirs

    found = compare(*cells(wins, losses, 12))
    assert found.test == "mcnemar"
    assert found.p == pytest.approx(theirs([[12, wins], [losses, 0]], exact=True).pvalue)
    assert (found.wins, found.losses, found.ties, found.n) == (wins, losses, 12, wins + losses + 12)


def test_the_interval_of_shares_is_that_of_bonett_and_price() -> None:
    """Their 2012 paper's example, as R's statpsych::ci.prop.ps(.05, 12, 26, 4, 6) prints it: 0.2548, 0.6252."""
    found = compare(*cells(26, 4, 18))
    assert found.difference == pytest.approx(22 / 48)
    assert found.ci95 == (pytest.approx(0.2548067, abs=1e-7), pytest.approx(0.6251933, abs=1e-7))


def test_that_no_sample_differs_does_not_make_it_certain() -> None:
    found = compare(*cells(0, 0, 50))
    assert (found.difference, found.p) == (0, 1)
    assert found.ci95 == pytest.approx((-1.959964 * math.sqrt(2) / 52, 1.959964 * math.sqrt(2) / 52))
    assert found.smallest == pytest.approx(STEPS**2 / 50)


def test_the_interval_covers_what_is_true_about_95_times_of_100() -> None:
    random_state = np.random.default_rng(7)
    for more, less, n in ((0.1, 0.1, 60), (0.3, 0.1, 40), (0.02, 0.01, 200)):
        drawn = random_state.multinomial(n, [more, less, 1 - more - less], size=400)
        ends = [compare(*cells(*map(int, row))).ci95 or (0, 0) for row in drawn]
        assert 0.92 <= np.mean([low <= more - less <= high for low, high in ends]) <= 1


def test_others_are_tested_by_students_test_where_many_differ() -> None:
    from scipy import stats

    draw = random.Random(0)
    one = [draw.random() for _ in range(30)]
    other = [0.7 * x + 0.2 * draw.random() for x in one]
    found, theirs = compare(one, other), stats.ttest_rel(one, other)
    assert found.test == "t"
    assert found.p == pytest.approx(float(theirs.pvalue))
    assert found.ci95 == pytest.approx(tuple(theirs.confidence_interval(0.95)))


def test_few_that_differ_are_tossed_in_all_ways_as_by_scipy() -> None:
    from scipy import stats

    one, other = [0.5, 0.9, 0.3, 0.8, 0.6, 0.7, 0.2], [0.4, 0.5, 0.35, 0.2, 0.5, 0.1, 0.2]
    theirs = stats.permutation_test(
        (one, other), lambda a, b: np.mean(a) - np.mean(b), permutation_type="samples", n_resamples=np.inf
    )
    found = compare(one, other)
    assert found.test == "permutation"
    assert found.p == pytest.approx(float(theirs.pvalue))


@given(st.integers(0, 12), st.integers(0, 12))
def test_of_right_and_wrong_all_tosses_are_mcnemars_test(wins: int, losses: int) -> None:
    if wins + losses <= 12:
        assert sign_flips([1.0] * wins + [-1.0] * losses) == pytest.approx(float(mcnemar(wins, losses)))


@settings(deadline=None)
@given(SCORES)
def test_the_other_way_round_is_the_same_with_another_sign(scores: list[tuple[float, float]]) -> None:
    one, other = zip(*scores, strict=True)
    found, back = compare(one, other), compare(other, one)
    ends = found.ci95 and (-found.ci95[1], -found.ci95[0])
    assert back == found._replace(difference=-found.difference, ci95=ends, wins=found.losses, losses=found.wins)
    assert found.p == pytest.approx(back.p)
    assert found.ties == sum(a == b for a, b in scores)
    low, high = found.ci95 or (0, 0)
    assert low - 1e-12 <= found.difference <= high + 1e-12
    assert 0 < found.p <= 1


@settings(deadline=None)
@given(SCORES, st.integers(2, 3))
def test_samples_of_a_cluster_count_as_one(scores: list[tuple[float, float]], times: int) -> None:
    one, other = zip(*scores, strict=True)
    if {*one, *other} <= {0.0, 1.0}:
        one, other = (*one, 0.5), (*other, 0.5)
    names = [str(n) for n in range(len(one))]
    once, often = compare(one, other), compare(one * times, other * times, names * times)
    assert often.p == pytest.approx(once.p)
    assert often.ci95 == pytest.approx(once.ci95)
    assert often.smallest == pytest.approx(once.smallest)


def test_clusters_of_right_and_wrong_that_all_agree_are_as_uncertain_as_so_many_samples() -> None:
    one, other = [1.0] * 12, [0.0] * 12
    found = compare(one, other, [n // 3 for n in range(12)])
    assert found.p == pytest.approx(2 / 2**4)
    assert found.ci95 == compare(one[:4], other[:4]).ci95


def test_all_pairs_at_once_are_each_pair_by_itself() -> None:
    draw = np.random.default_rng(3)
    for table in (draw.integers(0, 2, (5, 40)).astype(float), draw.integers(0, 5, (5, 40)) / 4):
        for clusters in (None, [n % 17 for n in range(40)]):
            whole = compare_all(table, clusters)
            for one, other in itertools.permutations(range(5), 2):
                alone = compare(list(table[one]), list(table[other]), clusters)
                assert alone._replace(ci95=None) == pytest.approx(whole.comparison(one, other)._replace(ci95=None))
                assert alone.ci95 == pytest.approx(whole.comparison(one, other).ci95)


def test_holms_correction_is_that_of_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    for ps in ([0.01, 0.04, 0.03, 0.005], [0.5], [], [0.02] * 5, [0.0, 1.0, 0.049, 0.0125]):
        theirs = multipletests(ps, method="holm")[1] if ps else []
        assert list(holm(ps)) == pytest.approx(list(theirs))


def test_holms_correction_of_a_table_counts_each_pair_once() -> None:
    p = np.array([[1, 0.01, 0.04], [0.01, 1, 0.03], [0.04, 0.03, 1]])
    assert holm_of_pairs(p).tolist() == [[1, 0.03, 0.06], [0.03, 1, 0.06], [0.06, 0.06, 1]]


def test_independent_estimates_are_compared_by_walds_test() -> None:
    from scipy import stats

    table = independent([0.5, 0.57, 0.5, None], [0.03, 0.04, None, None])
    assert table.p[0, 1] == pytest.approx(2 * stats.norm.sf(0.07 / 0.05))
    assert table.comparison(1, 0).ci95 == pytest.approx((0.07 - 0.05 * 1.959964, 0.07 + 0.05 * 1.959964))
    assert (table.p[0, 2], table.p[0, 3]) == (1, 0)
    assert table.comparison(0, 2).ci95 is None


@pytest.mark.parametrize(
    ("one", "other"), [((5, 5), (0, 5)), ((2, 2), (500, 1000)), ((3, 3), (1, 4)), ((1, 1), (0, 1))]
)
def test_samples_that_all_agree_are_compared_by_fishers_test(one: tuple[int, int], other: tuple[int, int]) -> None:
    from scipy import stats

    shares = [right / n for right, n in (one, other)]
    errors = [math.sqrt(right * (n - right) / n**2 / max(1, n - 1)) for right, n in (one, other)]
    table = independent(shares, errors, [one[1], other[1]])
    found = table.comparison(0, 1)
    theirs = stats.fisher_exact([[one[0], one[1] - one[0]], [other[0], other[1] - other[0]]]).pvalue
    assert (found.p, found.test) == (pytest.approx(float(theirs)), "fisher")
    assert mean_table([table, table], [1, 1], "aa").p[0, 1] == pytest.approx(found.p)
    assert (found.ci95 is not None and found.ci95[0] > 0) == (found.p < 0.05)


def test_no_p_value_is_0() -> None:
    assert independent([2.0, 3.0], [0.0, 0.0]).p[0, 1] == 1  # no fractions: nothing is known of their spread
    assert independent([1.0, 0.0], [0.0, 0.0], [9999, 9999]).p[0, 1] > 0
    assert independent([1.0, 0.0], [1e-9, 1e-9]).p[0, 1] > 0
    assert compare([1.0, 0.75, 1.0] * 5, [0.75, 0.5, 0.75] * 5).p == 2 / 2**15
    assert compare([1.0, 0.75], [0.75, 0.5]).p == 0.5
    assert compare([1.0], [0.75]).p == 1


def test_equal_differences_are_as_uncertain_as_their_test() -> None:
    found = compare([1.0, 0.75, 1.0, 0.5], [0.75, 0.5, 0.75, 0.25])
    assert found.p == 2 / 2**4
    assert found.ci95 is not None
    assert found.ci95[0] < 0 < 0.25 < found.ci95[1]


def test_without_an_error_no_difference_is_significant() -> None:
    unknown = independent([0.9, 0.1], [0.01, None])
    assert unknown.p[0, 1] == 1
    assert mean_table([unknown, independent([0.9, 0.1], [0.01, 0.01])], [1, 1], "ab").p[0, 1] == 1


def test_means_over_data_sets_add_squares_and_of_the_same_rows_errors() -> None:
    one, other = compare_all([[1.0] * 10, [0.0] * 4 + [1.0] * 6]), compare_all([[1.0] * 8, [0.0] * 2 + [1.0] * 6])
    apart = mean_table([one, other], [1, 1], ["a", "b"]).comparison(0, 1)
    assert apart.difference == pytest.approx((0.4 + 0.25) / 2)
    errors = [math.sqrt(4) / 10, math.sqrt(2) / 8]
    assert apart.null_stderr == pytest.approx(math.hypot(*errors) / 2)
    assert (apart.wins, apart.losses, apart.n) == (6, 0, 18)
    assert mean_table([one, other], [1, 1], ["a", "a"]).comparison(0, 1).null_stderr == pytest.approx(sum(errors) / 2)
    assert mean_table([one], [3], ["a"]).comparison(0, 1) == one.comparison(0, 1)


def test_a_mean_of_shares_that_are_all_won_is_not_certain() -> None:
    table = compare_all([[1.0] * 3, [0.0] * 3])
    assert mean_table([table, table], [1, 1], "ab").comparison(0, 1).p == pytest.approx(0.0143, abs=1e-4)  # z = 6^.5


def test_the_smallest_difference_is_found_80_times_of_100() -> None:
    """With a fifth of samples that differ; and Cohen's z for a power of 0.8."""
    n, unlike = 1000, 0.2
    found = compare(*cells(100, 100, 800)).smallest
    assert (
        found == pytest.approx(smallest_difference(n, math.sqrt(unlike))) == pytest.approx(2.8016 * 0.014142, abs=1e-5)
    )
    draw = np.random.default_rng(5)
    share = (unlike + found) / 2
    drawn = draw.multinomial(n, [share, unlike - share, 1 - unlike], size=4000)
    assert np.mean(mcnemar(drawn[:, 0], drawn[:, 1]) < 0.05) == pytest.approx(0.8, abs=0.03)


def test_the_power_of_students_test_is_that_of_statsmodels() -> None:
    from statsmodels.stats.power import TTestPower

    draw = random.Random(1)
    differences = [draw.gauss(0, 1) for _ in range(200)]
    found = compare(differences, [0.0] * 200)
    deviation = float(np.std(differences, ddof=1))
    assert found.smallest == pytest.approx(TTestPower().solve_power(None, 200, 0.05, 0.8) * deviation, rel=0.002)


def test_few_samples_show_nothing() -> None:
    assert smallest_difference(3) == 1
    assert smallest_difference(1000) == pytest.approx(0.0626, abs=1e-4)
    with pytest.raises(ValueError, match="no samples"):
        smallest_difference(0)
    with pytest.raises(ValueError, match="no samples"):
        compare([], [])
