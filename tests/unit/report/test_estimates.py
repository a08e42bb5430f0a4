"""The statistics of the leaderboard, against values worked out by hand."""

import pytest

from shardmark.records.score import Metric
from shardmark.report.estimates import half_width, interval, mean_metric, standings
from unit.report.fake_results import make_metric


def metric(value: float | None, stderr: float | None = 0.02, higher: bool = True) -> Metric:
    return make_metric(value, stderr=stderr, higher_is_better=higher)


def test_the_mean_adds_variances() -> None:
    mean = mean_metric([metric(0.5, 0.03), metric(0.7, 0.04)])
    assert mean is not None
    assert mean.value == pytest.approx(0.6)
    assert mean.stderr == pytest.approx(0.05 / 2)


def test_the_mean_of_an_estimate_without_error_has_none() -> None:
    mean = mean_metric([metric(0.5), metric(0.7, None)])
    assert mean is not None
    assert mean.value == pytest.approx(0.6)
    assert interval(mean) is None


def test_no_estimates_have_no_mean() -> None:
    assert mean_metric([]) is None


def test_a_given_interval_is_used_before_the_normal_one() -> None:
    wilson = make_metric(1.0, stderr=0.0, ci95=(0.8, 1.0), n=15, percent=False)
    assert half_width(wilson) == pytest.approx(0.1)
    assert half_width(metric(0.5)) == pytest.approx(1.96 * 0.02)
    assert interval(metric(1.0, 0.0)) is None  # no error, but no certainty


def near(*metrics: Metric | None) -> list[str]:
    """The standings where values that differ by less than 0.05 cannot be told apart."""
    values = [each.value or 0 if each else 0 for each in metrics]
    return list(standings(metrics, lambda one, other: abs(values[one] - values[other]) < 0.05))


def test_the_best_and_its_equals_are_marked() -> None:
    assert near(metric(0.80), metric(0.84), None, metric(0.6), metric(None)) == ["tied", "best", "", "", ""]


def test_all_that_are_best_are_marked_so() -> None:
    assert near(metric(0.84), metric(0.84), metric(0.5)) == ["best", "best", ""]


def test_none_is_best_where_all_are_equal() -> None:
    assert near(metric(0.0), metric(0.0)) == ["", ""]
    assert near(metric(0.5), None, metric(0.5)) == ["", "", ""]


def test_the_least_is_best_where_lower_is_better() -> None:
    assert near(metric(9.0, 0.1, False), metric(3.0, 0.1, False)) == ["", "best"]


def test_a_lonely_estimate_is_not_marked() -> None:
    assert near(metric(0.8), None) == ["", ""]
