"""Samples as their pages show them."""

from typing import Any

import pytest

from shardmark.records.base import convert
from shardmark.records.score import Scores
from shardmark.report.pages import count_pages, pager
from shardmark.report.samples import by_group, prepare, verdict
from shardmark.scoring.statistics import estimate_mean
from unit.report.fake_results import make_sample, make_samples, make_scores


def shown(**fields: Any) -> Any:
    scores = convert(make_scores("a", "demo_arithmetic", make_samples("a", "demo_arithmetic", 3)), Scores)
    return prepare([make_sample(**fields)], scores)[0]


@pytest.mark.parametrize(
    ("score", "percent", "expected"),
    [
        (1.0, True, "right"),
        (0.0, True, "wrong"),
        (0.4, True, "partial"),
        (None, True, "unscored"),
        (1.0, False, "partial"),
    ],
)
def test_only_a_fraction_can_be_wholly_right_or_wrong(score: float | None, percent: bool, expected: str) -> None:
    assert verdict(score, percent) == expected


def test_choices_are_marked_by_index() -> None:
    item = shown(choices=["2", "1", "0"], logprobs=[-3, -1, -2], tokens=[1, 2, 0], answer=1, target=2)
    assert [(choice.chosen, choice.gold) for choice in item.choices] == [
        (False, False),
        (True, False),
        (False, True),
    ]
    assert [choice.per_token for choice in item.choices] == [-3, -0.5, None]


def test_choices_are_marked_by_text() -> None:
    item = shown(choices=["Rome", "Paris"], logprobs=[-3, -1], output="Paris", answer="Paris", target="Paris")
    assert [(choice.chosen, choice.gold) for choice in item.choices] == [(False, False), (True, True)]


def test_shares_of_choices_add_up_to_one_even_for_very_unlikely_ones() -> None:
    item = shown(choices=["a", "b", "c"], logprobs=[-2000.0, -2001.0, None])
    assert sum(choice.share or 0 for choice in item.choices) == pytest.approx(1)
    assert item.choices[2].share is None


def test_several_answers_are_shown_each_with_its_verdict() -> None:
    outputs = {"outputs": ["It is 2.", " "], "answers": {"": ["2", None]}}
    item = shown(**outputs, output="It is 2.", answer="2", answer_scores={"exact_match avg@2": [1.0, 0.0]})
    assert [(each.answer, each.verdict) for each in item.several] == [("2", "right"), (None, "wrong")]
    assert not item.chosen
    voted = shown(**outputs | {"answers": {"": ["2"]}}, output="It is 2.", answer="2")
    assert [(each.answer, each.verdict) for each in voted.several] == [(None, ""), (None, "")]
    assert voted.chosen
    assert shown(output="2", answer="2").several == []


def test_targets_of_any_type_are_shown_as_text() -> None:
    assert shown(target=["a", 72, 1.5]).targets == ["a", "72", "1.5"]
    assert shown(target=0).targets == ["0"]
    assert shown(target=None).targets == []


def test_groups_have_their_own_means() -> None:
    samples = [
        make_sample(sample=str(n), group=group, scores={"accuracy": score})
        for n, (group, score) in enumerate([("b", 1.0), ("a", 0.0), ("a", 1.0), (None, 1.0), ("c", None)])
    ]
    assert [group[:3] for group in by_group(samples, "accuracy")] == [
        ("a", 2, 0.5),
        ("b", 1, 1.0),
        ("c", 1, None),
    ]


def test_a_group_has_the_interval_of_its_mean_unless_it_has_no_score() -> None:
    samples = [make_sample(sample=str(n), group="a", scores={"accuracy": n % 2}) for n in range(8)]
    (group,) = by_group(samples, "accuracy")
    assert group.ci95 == estimate_mean([0.0, 1.0] * 4).ci95
    assert by_group([make_sample(sample="s", group="a")], "accuracy")[0].ci95 is None


def test_pages_hold_a_hundred_samples() -> None:
    assert [count_pages(n) for n in (0, 1, 100, 101)] == [1, 1, 1, 2]


def test_the_pager_leaves_gaps_between_distant_pages() -> None:
    assert [page.number for page in pager(10, 20)] == [1, 0, 8, 9, 10, 11, 12, 0, 20]
    assert [page.number for page in pager(1, 5)] == [1, 2, 3, 4, 5]
    assert [page.file for page in pager(1, 2)] == ["index.html", "page-2.html"]
