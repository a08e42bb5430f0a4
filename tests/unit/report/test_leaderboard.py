"""Which model stands where, and over which data sets the mean is taken."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from shardmark.report.build import build_report
from shardmark.report.estimates import weighted_mean
from shardmark.report.exports import leaderboard_csv, leaderboard_markdown
from shardmark.report.groups import Group
from shardmark.report.leaderboard import Leaderboard, rank_models
from shardmark.report.paired import Comparisons
from shardmark.report.remarks import headline, near_misses, reasons_left_out, warnings
from shardmark.report.results import read_results
from unit.report.fake_results import Files, make_samples, make_scores, read_index, write_pair


def scored(root: Path, values: dict[tuple[str, str], float | None], **metric: Any) -> Files:
    files = Files([], [])
    for (model, dataset), value in values.items():
        samples = make_samples(model, dataset, 8)
        scores = make_scores(model, dataset, samples)
        scores["metrics"][scores["primary"]] |= {"value": value, "stderr": 0.01, "ci95": None} | metric
        write_pair(root, files, scores, samples)
    return files


def ranked(root: Path, values: dict[tuple[str, str], float | None], **metric: Any) -> Leaderboard:
    return rank_models(read_results(*scored(root, values, **metric)))


def test_models_are_ranked_by_the_mean_over_the_data_sets_that_all_have(tmp_path: Path) -> None:
    board = ranked(tmp_path, {("a", "x"): 0.5, ("b", "x"): 0.7, ("a", "y"): 0.7, ("b", "y"): 0.8, ("a", "z"): 1.0})
    assert [(row.rank, row.model.name) for row in board.rows] == [(1, "b"), (2, "a")]
    assert [column.dataset.name for column in board.in_mean] == ["x", "y"]
    assert reasons_left_out(board) == ["z (no result for b)"]


def test_a_missing_pair_has_a_cell_without_a_metric(tmp_path: Path) -> None:
    board = ranked(tmp_path, {("a", "x"): 0.5, ("a", "y"): 0.5, ("b", "x"): 0.4})
    assert [cell.metric is None for cell in board.rows[1].cells] == [False, True]


def test_a_value_that_is_not_a_number_counts_as_missing_from_the_mean(tmp_path: Path) -> None:
    board = ranked(tmp_path, {("a", "x"): float("nan"), ("b", "x"): 0.4})
    assert [row.mean for row in board.rows] == [None, None]
    assert headline(board) == ""


def test_metrics_without_a_common_unit_are_not_averaged(tmp_path: Path) -> None:
    values: dict[tuple[str, str], float | None] = {("a", "x"): 12.5, ("b", "x"): 8.25}
    board = ranked(tmp_path, values, percent=False, higher_is_better=False)
    assert board.in_mean == []
    assert [cell.standing for cell in board.cells(board.columns[0])] == ["", "best"]
    assert "| – | a | – |" in leaderboard_markdown(board)  # no mean, no rank


def test_a_mean_without_an_interval_is_told_without_one(tmp_path: Path) -> None:
    assert (
        headline(ranked(tmp_path, {("a", "x"): 0.5}, stderr=None))
        == "a reaches a mean of 50.0\N{NO-BREAK SPACE}% over 1 data set."
    )


def test_given_weights_rank_models_and_the_other_means_stand_beside_it(tmp_path: Path) -> None:
    files = scored(tmp_path, {("a", "x"): 0.9, ("a", "y"): 0.2, ("b", "x"): 0.7, ("b", "y"): 0.6})
    results = read_results(*files, mean_weights={"x": 7.0})
    board = rank_models(results)
    found = {row.model.name: (row.mean, row.unweighted, row.by_samples) for row in board.rows}
    assert list(found) == ["a", "b"]
    assert found["a"][0] == weighted_mean([results.pairs["a", name].scores.main for name in "xy"], [7, 1])
    assert [metric.value for metric in found["b"] if metric] == pytest.approx([0.6875, 0.65, 0.65])
    table = Comparisons(results).mean(["x", "y"])
    assert table.difference[0, 1] == pytest.approx(0.8125 - 0.6875)
    assert headline(board).startswith("a leads with a weighted mean of 81.3")
    page = build_report("r", *files, tmp_path / "out", {}, mean_weights={"x": 7.0}).read_text("utf-8")
    assert "The mean is weighted, over x (7), y (1)" in page
    assert "Unweighted" not in build_report("r", *files, tmp_path / "out", {}).read_text("utf-8")


def test_the_headline_names_the_models_that_equal_the_best(tmp_path: Path) -> None:
    board = ranked(tmp_path, {("a", "x"): 0.80, ("b", "x"): 0.79, ("c", "x"): 0.2})
    assert headline(board).replace("\xa0", " ") == (
        "a leads with a mean of 80.0 ± 2.0 % over 1 data set; b is not distinguishable from it."
    )


def test_the_headline_names_no_leader_where_all_means_are_equal(tmp_path: Path) -> None:
    board = ranked(tmp_path, {("a", "x"): 0.0, ("b", "x"): 0.0})
    assert headline(board).replace("\xa0", " ").startswith("2 models share the same mean of 0.0 ± ")
    assert {row.standing for row in board.rows} == {""}
    assert "**" not in leaderboard_markdown(board).splitlines()[2]


def test_ties_and_choices_tokenized_alone_stand_with_the_score(tmp_path: Path) -> None:
    samples = make_samples("a", "demo_arithmetic", 20)
    scores = make_scores("a", "demo_arithmetic", samples)
    scores["counts"] |= {"tied": 3, "alone": 2, "late": 4}
    files = Files([], [])
    write_pair(tmp_path, files, scores, samples)
    results = read_results(*files)
    (warned,) = warnings(results)
    said = (
        "3 of 20 samples with tied choices",
        "2 of 20 samples with choices tokenized alone",
        "answers ended by the time limit, which another run may not reproduce: 4",
    )
    assert warned.remarks == "; ".join(said)
    assert warned.remarks in build_report("r", *files, tmp_path / "out", {}).read_text("utf-8")
    board = rank_models(results)
    assert board.rows[0].cells[0].remarks == said
    assert f"({'; '.join(said)})" in leaderboard_markdown(board)
    assert f",{'; '.join(said)}\n" in leaderboard_csv(results).replace('"', "")


def test_reasoning_is_told_with_what_was_cut(tmp_path: Path) -> None:
    samples, files = make_samples("a", "x", 20), Files([], [])
    tokens = [(900, 100), (None, None)]
    for dataset, (thought, answer) in zip("xy", tokens, strict=True):
        scores = make_scores("a", dataset, samples)
        counted = {"thought_tokens": thought, "answer_tokens": answer}
        scores["counts"] |= {"reasoning": {"answers": 20, "reasoned": 18, "cut": 5, **counted}, "late": 1}
        write_pair(tmp_path, files, scores, samples)
    write_pair(tmp_path, files, make_scores("a", "z", samples), samples)
    results = read_results(*files, groups=[Group("both", ["x", "y"])])
    said = (
        "reasoning of 5 of 20 answers cut",
        "answers ended by the time limit, which another run may not reproduce: 1",
    )
    cells = {cell.column.dataset.name: cell for cell in rank_models(results).rows[0].cells}
    assert cells["x"].remarks == cells["y"].remarks == said
    assert cells["both"].remarks[0] == "reasoning of 10 of 40 answers cut"
    assert cells["z"].remarks == ()
    table = [row[-4:-1] for row in csv.reader(io.StringIO(leaderboard_csv(results)))]
    assert ["0.25", "45.0", "5.0"] in table
    assert ["0.25", "", ""] in table
    assert ["", "", ""] in table
    page = build_report("run", files.scores, files.samples, tmp_path / "report", {})
    text = page.read_text()
    assert "Mean tokens of reasoning" in text
    assert 'who">a</td><td class="who">x</td>' in text
    assert 'who">a</td><td class="who">z</td>' not in text.partition('id="reasoning"')[2].partition("</section>")[0]
    (told,) = read_index(page.parent, "x")["models"]
    assert "mean tokens of reasoning 45, of the answer 5" in told["summary"]


def test_truncated_prompts_and_unanswered_samples_are_warned_of(tmp_path: Path) -> None:
    samples = make_samples("a", "demo_arithmetic", 20)
    files = Files([], [])
    write_pair(tmp_path, files, make_scores("a", "demo_arithmetic", samples), samples)
    (warned,) = warnings(read_results(*files))
    assert warned.truncated == 1
    assert warned.unanswered == sum(sample["answer"] is None for sample in samples)


def test_near_misses_are_told_with_what_helps(tmp_path: Path) -> None:
    files, samples = Files([], []), make_samples("a", "x", 20)
    for dataset, amount in (("x", 1), ("y", 19), ("z", 0)):
        scores = make_scores("a", dataset, samples)
        scores["counts"] |= {"near_misses": amount, "truncated": 0, "unanswered": 0}
        write_pair(tmp_path, files, scores, samples)
    results = read_results(*files)
    assert [(warned.dataset, warned.near_misses) for warned in warnings(results)] == [("x", 1), ("y", 19)]
    first, second = near_misses(results)
    assert first.startswith("a on x: 1 of 20 answers wrong only by white space or case; ")
    assert second.startswith("a on y: 19 of 20 answers wrong only by white space or case; ")
    assert "add `filters: [strip]`" in second


def test_it_says_which_models_were_asked_in_chats(tmp_path: Path) -> None:
    files = Files([], [])
    chats = {("a", "x"): True, ("b", "x"): False, ("a", "y"): True, ("b", "y"): True, ("a", "z"): False}
    for (model, dataset), chat in chats.items():
        samples = make_samples(model, dataset, 8)
        scores = make_scores(model, dataset, samples)
        scores["dataset"] |= {"is_chat": chat, "digest": "chat" if chat else "text"}
        write_pair(tmp_path, files, scores, samples)
    results = read_results(*files)
    board = rank_models(results)
    assert {(cell.model, cell.column.dataset.name): cell.remarks for row in board.rows for cell in row.cells} == {
        ("a", "x"): ("in a chat",),
        ("b", "x"): ("as text",),
        ("a", "y"): (),
        ("b", "y"): (),
        ("a", "z"): (),
        ("b", "z"): (),
    }
    assert [column.asked for column in board.columns] == ["", "in chats", ""]
    assert "in chats" in leaderboard_markdown(board).partition("\n")[0]
    rows = csv.DictReader(io.StringIO(leaderboard_csv(results)))
    assert {(row["model"], row["dataset"]): row["asked"] == "chat" for row in rows} == chats
