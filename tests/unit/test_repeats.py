"""Several answers to a question are one value of it, estimated as published."""

from fractions import Fraction
from itertools import combinations
from math import ceil, comb
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from projects import GENERATE, dataset_settings, property_test
from shardmark.config.base import validate
from shardmark.config.dataset import DatasetConfig
from shardmark.metrics import METRICS
from shardmark.metrics.repeats import AnyRepeats, Average, Repeats
from shardmark.scoring.statistics import estimate_mean

DRAWN = {"temperature": 1.0, "samples": 8}


def statistic(name: str, **settings: Any) -> Repeats:
    return TypeAdapter(AnyRepeats).validate_python({"name": name, **settings})


# Values


@property_test
@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=9), st.data())
def test_a_value_of_k_answers_is_the_mean_over_all_choices_of_them(scores: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(scores)))
    threshold = data.draw(st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.5, 0.55, 0.7, 0.75, 1.0]))
    right = [sum(choice) for choice in combinations(scores, k)]
    assert statistic("pass", k=k).value(scores) == pytest.approx(fmean(c >= 1 for c in right))
    assert statistic("all", k=k).value(scores) == pytest.approx(fmean(c == k for c in right))
    wanted = next(j for j in range(1, k + 1) if round(100 * j) >= round(100 * threshold) * k)
    enough = fmean(c >= wanted for c in right)
    assert statistic("g_pass", k=k, threshold=threshold).value(scores) == pytest.approx(enough)
    if k > 1:
        mean = 2 / k * sum(fmean(c >= i for c in right) for i in range(ceil(k / 2) + 1, k + 1))
        assert statistic("mg_pass", k=k).value(scores) == pytest.approx(mean)


def test_a_threshold_is_as_it_is_written() -> None:
    """0.55 * 20 is 11.000000000000002 in floating-point numbers."""
    assert statistic("g_pass", threshold=0.55).value([1.0] * 11 + [0.0] * 9) == 1.0


def test_values_of_many_answers_neither_overflow_nor_vanish() -> None:
    scores = [1.0] * 500 + [0.0] * 500
    assert statistic("all", k=400).value(scores) == float(Fraction(comb(500, 400), comb(1000, 400)))
    assert statistic("pass", k=400).value(scores) == 1.0
    assert statistic("g_pass", k=999, threshold=0.5).value(scores) == pytest.approx(0.5)


def test_without_k_all_answers_count() -> None:
    scores = [1.0, 0.0, 0.0]
    values = {name: statistic(name).value(scores) for name in ("pass", "all", "avg")}
    assert values == {"pass": 1.0, "all": 0.0, "avg": pytest.approx(1 / 3)}


@pytest.mark.parametrize(
    ("answers", "settings", "judged"),
    [
        (["3", "2", "2"], {}, "2"),
        (["3", "2", "2", "3"], {}, "3"),
        (["3", "2", "2"], {"k": 1}, "3"),
        ([None, None, "2"], {}, "2"),
        ([None, None], {}, None),
        (["1/2", "3", "0.50", "0.5"], {"tolerance": 0.0}, "1/2"),
    ],
)
def test_the_most_frequent_answer_is_judged(answers: list[Any], settings: dict[str, Any], judged: str | None) -> None:
    assert statistic("maj", **settings).judged(answers) == [judged]


def test_the_error_bar_is_that_of_answers_in_clusters_of_a_question() -> None:
    import numpy as np
    import statsmodels.api as sm

    random = np.random.default_rng(0)
    answers = (random.random((40, 8)) < random.random((40, 1))).astype(float)
    fit = sm.OLS(answers.ravel(), np.ones(answers.size))
    clustered = fit.fit(cov_type="cluster", cov_kwds={"groups": np.repeat(np.arange(40), 8)})
    estimate = estimate_mean([Average().value(list(row)) for row in answers])
    assert estimate.n == 40
    assert estimate.stderr == pytest.approx(float(clustered.bse[0]))
    assert estimate.stderr > 1.5 * float(fit.fit().bse[0])  # than if answers were questions


# Names


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({}, "exact_match avg@8"),
        ({"repeats": "avg"}, "exact_match avg@8"),
        ({"repeats": "pass"}, "exact_match pass@8"),
        ({"repeats": {"name": "pass", "k": 4}}, "exact_match pass@4"),
        ({"repeats": {"name": "all", "k": 4}}, "exact_match pass^4"),
        ({"repeats": {"name": "maj", "k": 5}}, "exact_match maj@5"),
        ({"repeats": {"name": "g_pass", "k": 4, "threshold": 0.5}}, "exact_match G-Pass@4_0.5"),
        ({"repeats": "mg_pass"}, "exact_match mG-Pass@8"),
        ({"label": "em"}, "em avg@8"),
        ({"label": "avg@8"}, "avg@8"),
        ({"label": "pass^8", "repeats": "all"}, "pass^8"),
        ({"label": "em-avg@80"}, "em-avg@80 avg@8"),
        ({"label": "my_pass@1", "repeats": {"name": "pass", "k": 1}}, "my_pass@1"),
        ({"label": "pass@16", "repeats": {"name": "pass", "k": 1}}, "pass@16 pass@1"),
    ],
)
def test_a_score_is_named_by_what_became_of_the_answers(settings: dict[str, Any], title: str) -> None:
    (metric,) = dataset_settings(metrics=[{"name": "exact_match", **settings}], generation=DRAWN).metrics
    assert metric.title(8) == title


def test_a_score_of_one_answer_has_its_plain_name() -> None:
    assert METRICS["exact_match"].model_validate({"name": "exact_match"}).title(1) == "exact_match"


def test_pass_at_k_of_programs_keeps_its_name_unless_something_else_is_asked_for() -> None:
    plain, every = (
        METRICS["pass_at_k"].model_validate({"name": "pass_at_k", **more}) for more in ({"k": 3}, {"repeats": "all"})
    )
    assert [metric.title(8) for metric in (plain, every)] == ["pass_at_k", "pass_at_k pass^8"]
    assert plain.statistic(8) == statistic("pass", k=3)


# What is part of digests


def test_settings_without_it_are_what_they_were() -> None:
    assert "repeats" not in dataset_settings().model_dump()["metrics"][0]


@pytest.mark.parametrize(
    ("changes", "is_repeated"),
    [
        ({"generation": {}}, False),
        ({}, True),
        ({"filters": ["strip", "majority_vote"]}, False),
        ({"filters": [{"name": "take_first", "k": 2}]}, True),
        ({"filters": ["take_first"]}, False),
        ({"chains": {"vote": ["majority_vote"], "each": []}}, True),
        ({"metrics": [{"name": "pass_at_k", "k": 2}]}, False),
        ({"metrics": [{"name": "pass_at_k", "repeats": "all"}]}, True),
    ],
)
def test_only_scores_that_it_decides_depend_on_it(changes: dict[str, Any], is_repeated: bool) -> None:
    assert dataset_settings(**{"generation": DRAWN, **changes}).is_repeated is is_repeated


# Bad input


def told(**changes: Any) -> list[tuple[str, str]]:
    """The key and the text of each problem of a data set with 8 answers to a request."""
    found: list[Any] = []
    values = {"source": {"file": "rows.jsonl"}} | GENERATE | {"generation": DRAWN} | changes
    assert validate(DatasetConfig, values, "f.yaml", found) is None
    assert all(problem.fix for problem in found)
    return [(problem.key, problem.what) for problem in found]


@pytest.mark.parametrize("name", ["pass", "all", "maj", "mg_pass"])
def test_a_k_above_the_answers_is_refused_by_its_key(name: str) -> None:
    metrics = ["exact_match", {"name": "exact_match", "repeats": {"name": name, "k": 9}}]
    what = "k 9 is more than the answers per request: generation.samples is 8"
    assert told(metrics=metrics) == [("metrics.1.repeats.k", what)]


def test_a_k_above_what_filters_leave_is_refused() -> None:
    metrics = [{"name": "exact_match", "repeats": {"name": "pass", "k": 4}}]
    filters = [{"name": "take_first", "k": 3}]
    what = "k 4 is more than the answers per request: a filter leaves 3"
    assert told(metrics=metrics, filters=filters) == [("metrics.0.repeats.k", what)]


def test_fractions_are_not_counted_as_right_answers_and_all_that_is_wrong_is_told() -> None:
    names = ("rouge", "f1", "bleu", "squad")
    metrics = [{"name": name, "repeats": "pass", "label": name} for name in names]
    assert [key for key, _ in told(metrics=metrics)] == [f"metrics.{n}.repeats" for n in range(4)]
    fine = [{"name": "squad", "part": "exact_match", "repeats": "pass"}, {"name": "bleu", "repeats": "maj"}]
    assert dataset_settings(metrics=fine, generation=DRAWN)


@pytest.mark.parametrize(
    ("changes", "key", "what"),
    [
        ({"generation": {}}, "metrics.0.repeats", "has no effect: each request has one answer"),
        ({"filters": ["majority_vote"]}, "metrics.0.repeats", "has no effect: a filter leaves 1"),
        ({"chains": {"a": ["take_first"], "b": []}}, "metrics.0.repeats", "has no effect: chain 'a' leaves 1"),
    ],
)
def test_what_has_no_effect_is_refused(changes: dict[str, Any], key: str, what: str) -> None:
    ((found, message),) = told(**{"metrics": [{"name": "exact_match", "repeats": "pass"}], **changes})
    assert (found, message[: len(what)]) == (key, what)


def test_no_vote_is_on_whole_texts_in_which_the_metric_finds_the_answer() -> None:
    vote = {"name": "math_equivalence", "repeats": "maj"}
    assert [key for key, _ in told(metrics=[vote])] == ["filters"]
    assert [key for key, _ in told(metrics=["math_equivalence"], filters=["majority_vote"])] == ["filters"]
    assert dataset_settings(metrics=[vote], filters=["last_box"], generation=DRAWN)


def test_choices_are_answered_once() -> None:
    found: list[Any] = []
    metrics = [{"name": "accuracy", "repeats": "pass"}]
    values = {"source": {"file": "d"}, "kind": "choice", "prompt": "q", "choices": "c", "target": "a"}
    assert validate(DatasetConfig, values | {"metrics": metrics}, "f.yaml", found) is None
    ((key, what),) = [(problem.key, problem.what) for problem in found]
    assert (key, what) == ("metrics.0.repeats", "has no effect: kind choice has one answer")
