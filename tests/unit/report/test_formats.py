"""Numbers and times as the report shows them."""

import pytest

from shardmark.report.formats import breakable, count, described, duration, margin, moment, number, p_value, rate
from unit.report.fake_results import make_metric


@pytest.mark.parametrize(
    ("value", "percent", "expected"),
    [
        (0.8349, True, "83.5"),
        (1.0, True, "100.0"),
        (-1.5, False, "−1.5"),
        (1234.56, False, "1235"),
        (24691.4, False, "24690"),
        (None, True, "–"),
        (0.0625, True, "6.3"),
        (-0.0625, True, "−6.3"),
        (-0.0, True, "0.0"),
        (-0.0, False, "0"),
        (0.28125, False, "0.2813"),
        (0.0000125, False, "0.0000125"),
        (1.25e-9, False, "1.25e−9"),
        (2.5e30, False, "2.5e+30"),
    ],
)
def test_fractions_are_percent_with_one_decimal_and_others_have_four_digits(
    value: float | None, percent: bool, expected: str
) -> None:
    assert number(value, percent) == expected


@pytest.mark.parametrize(
    ("p", "expected"), [(0.0625, "0.063"), (0.3125, "0.313"), (0.0004, "< 0.001"), (1.0, "1.000"), (None, "–")]
)
def test_p_values_have_three_decimals(p: float | None, expected: str) -> None:
    assert p_value(p) == expected


@pytest.mark.parametrize(("half", "expected"), [(0.82891, "0.83"), (0.000123, "0.00012"), (12.5, "12.5"), (9.99, "10")])
def test_a_margin_that_is_no_fraction_has_two_digits(half: float, expected: str) -> None:
    assert margin(make_metric(50.0, ci95=(50 - half, 50 + half), percent=False)) == expected


def test_an_unknown_error_is_a_dash() -> None:
    assert margin(make_metric(0.5)) == "–"


def test_an_estimate_is_described_with_interval_and_n() -> None:
    metric = make_metric(0.5, stderr=0.1, ci95=(0.3, 0.7), n=1200)
    assert described(metric) == "50.0 % (95 % interval 30.0 to 70.0), n = 1\u202f200"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(12.34, "12.3 s"), (75, "1 min 15 s"), (7384, "2 h 03 min"), (None, "–")]
)
def test_durations_have_the_unit_that_suits_them(seconds: float | None, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(("value", "expected"), [(0.4101, "0.410"), (12.0, "12.0"), (1234.5, "1\u202f234")])
def test_rates_have_three_significant_digits(value: float, expected: str) -> None:
    assert rate(value) == expected


def test_times_are_shown_in_utc_and_other_texts_as_they_are() -> None:
    assert moment("2026-11-23T23:30:00+02:00") == "23 November 2026, 21:30 UTC"
    assert moment("yesterday") == "yesterday"
    assert count(None) == "–"


def test_a_name_may_break_after_its_separators_and_is_escaped() -> None:
    assert breakable("a_b<i>") == "a_<wbr>b&lt;i&gt;"
