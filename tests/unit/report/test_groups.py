"""Data sets that are reported as one: the mean of their metrics with its error, and a column of its own."""

import csv
import io
from math import hypot, sqrt
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shardmark.records.score import Metric, Reasoning
from shardmark.report.build import build_report
from shardmark.report.estimates import weighted_mean
from shardmark.report.exports import leaderboard_csv, leaderboard_markdown
from shardmark.report.groups import Group, group_scores
from shardmark.report.leaderboard import rank_models
from shardmark.report.remarks import reasons_left_out
from shardmark.report.results import Results, read_results
from unit.report.fake_results import MISSING, make_metric, write_results

GROUP = Group("both", ["demo_arithmetic", "demo_capitals"], description="two of four")


def metric(value: float | None, stderr: float | None = 0.1, n: int = 10, **facts: Any) -> Metric:
    return make_metric(value, stderr=stderr, n=n, **facts)


def results(tmp_path: Path, *groups: Group) -> Results:
    files = write_results(tmp_path, missing=())
    return read_results(files.scores, files.samples, groups=groups)


def test_the_mean_is_weighted_and_so_is_its_error() -> None:
    found = weighted_mean([metric(0.5, 0.1), metric(0.8, 0.2)], [1, 3])
    assert found.value == pytest.approx((0.5 + 3 * 0.8) / 4)
    assert found.stderr == pytest.approx(hypot(0.1, 3 * 0.2) / 4)
    assert found.n == 20


def test_a_micro_mean_is_that_of_all_samples_together() -> None:
    """Of shares: the standard error is that of a stratified sample."""
    shares = [(0.5, 40), (0.9, 160)]
    metrics = [metric(p, sqrt(p * (1 - p) / n), n) for p, n in shares]
    found = weighted_mean(metrics, [n for _, n in shares])
    assert found.value == pytest.approx((20 + 144) / 200)
    assert found.stderr == pytest.approx(sqrt(sum(n * p * (1 - p) for p, n in shares)) / 200)


@pytest.mark.parametrize("others", [metric(None), metric(0.5, higher_is_better=False), make_metric(0.5, percent=False)])
def test_what_cannot_be_averaged_has_no_value(others: Metric) -> None:
    assert weighted_mean([metric(0.5), others], [1, 1]).value is None


def test_a_mean_of_shares_that_are_all_1_is_not_certain() -> None:
    found = weighted_mean([metric(1.0, 0.0, ci95=(0.8, 1.0)), metric(1.0, 0.0, ci95=(0.7, 1.0))], [1, 3])
    assert found.ci95 == pytest.approx((1 - hypot(0.2, 3 * 0.3) / 4, 1.0))


def test_an_unknown_error_makes_the_error_unknown() -> None:
    found = weighted_mean([metric(0.5), metric(0.7, None)], [1, 1])
    assert (found.value, found.stderr) == (pytest.approx(0.6), None)


@pytest.mark.parametrize("mean", ["macro", "micro", "weighted"])
def test_a_group_is_a_column_before_the_data_sets(tmp_path: Path, mean: str) -> None:
    weights = {"demo_arithmetic": 1.0, "demo_capitals": 3.0} if mean == "weighted" else {}
    board = rank_models(results(tmp_path, Group("both", GROUP.members, mean, weights)))
    assert [column.dataset.name for column in board.columns][:2] == ["both", "demo_arithmetic"]
    assert board.columns[0].metric == f"{mean} accuracy"
    for row in board.rows:
        metrics: list[Any] = [cell.metric for cell in row.cells[:3]]
        whole, first, second = metrics
        sizes = {"macro": (1, 1), "micro": (first.n, second.n), "weighted": (1, 3)}[mean]
        assert whole.value == pytest.approx((sizes[0] * first.value + sizes[1] * second.value) / sum(sizes))


def test_a_group_has_what_its_members_have_beside_scores(tmp_path: Path) -> None:
    found = results(tmp_path)
    one, other = (found.pairs[found.models[0].name, name].scores for name in GROUP.members)
    thoughts = [
        Reasoning(answers=4, reasoned=3, cut=1, seen=False, thought_tokens=30, answer_tokens=8),
        Reasoning(answers=6, reasoned=6, cut=2, seen=True, thought_tokens=50, answer_tokens=9),
    ]
    again = {"tied": 1, "alone": 2, "within_thoughts": 3, "late": 4, "refused": 5, "repeated": 7, "differing": 6}
    members = [
        replace(
            each, dataset=replace(each.dataset, chance=chance), counts=replace(each.counts, reasoning=thought, **again)
        )
        for each, chance, thought in zip((one, other), (0.25, 0.5), thoughts, strict=True)
    ]
    whole = group_scores(Group("both", GROUP.members, "weighted", {"demo_capitals": 3.0}), members)
    assert whole.dataset.chance == pytest.approx((0.25 + 3 * 0.5) / 4)
    assert whole.counts.reasoning == Reasoning(
        answers=10, reasoned=9, cut=3, seen=True, thought_tokens=80, answer_tokens=17
    )
    assert {name: getattr(whole.counts, name) // 2 for name in again} == again
    unknown = replace(one, counts=replace(one.counts, reasoning=replace(thoughts[0], thought_tokens=None)))
    partly = group_scores(GROUP, [unknown, members[1]])
    assert (partly.dataset.chance, partly.counts.reasoning.thought_tokens) == (None, None)  # type: ignore[union-attr]


def test_a_group_counts_in_the_mean_in_place_of_its_data_sets(tmp_path: Path) -> None:
    board = rank_models(results(tmp_path, GROUP))
    assert [c.dataset.name for c in board.in_mean] == ["both", "demo_translation", "demo_reading_comprehension"]
    assert reasons_left_out(board) == ["2 data sets of both (counted as one)"]


def test_a_group_is_in_the_exports(tmp_path: Path) -> None:
    found = results(tmp_path, GROUP)
    rows = [row for row in csv.DictReader(io.StringIO(leaderboard_csv(found))) if row["dataset"] == "both"]
    assert [row["metric"] for row in rows] == ["macro accuracy"] * 3
    assert all(float(row["value"]) > 0 and float(row["stderr"]) > 0 for row in rows)
    assert "both (macro accuracy, %)" in leaderboard_markdown(rank_models(found))


def test_a_group_of_which_a_part_is_missing_is_not_run(tmp_path: Path) -> None:
    files = write_results(tmp_path)
    found = read_results(files.scores, files.samples, groups=[Group("all", ["demo_capitals", MISSING[1]])])
    assert [found.get(model.name, "all") is None for model in found.models] == [
        model.name == MISSING[0] for model in found.models
    ]


def test_the_report_shows_a_group(tmp_path: Path) -> None:
    files = write_results(tmp_path / "in", missing=())
    group = {"name": "both", "members": list(GROUP.members), "mean": "micro", "weights": {}, "description": "two"}
    page = build_report("run", files.scores, files.samples, tmp_path / "out", {}, groups=[group])
    assert ">both<" in page.read_text("utf-8").partition("<tbody>")[0].replace("<wbr>", "")
    assert "micro mean of demo_arithmetic, demo_capitals" in page.with_name("provenance.html").read_text("utf-8")
