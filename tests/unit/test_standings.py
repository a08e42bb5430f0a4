"""The leaderboard in the terminal."""

import io
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from shardmark.records.score import Scores
from shardmark.report.exports import leaderboard_markdown
from shardmark.report.leaderboard import rank_models
from shardmark.report.pair import Pair
from shardmark.report.results import Results, read_results
from shardmark.workflow.standings import _notes, print_standings
from unit.report.fake_results import make_metric, write_results


def shown(results: Results, folder: Path, width: int = 200) -> str:
    (folder / "leaderboard.md").write_text(leaderboard_markdown(rank_models(results)))
    console = Console(file=io.StringIO(), width=width)
    print_standings(folder, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def alone(scores: Scores) -> Results:
    return Results({(scores.model.name, scores.dataset.name): Pair(scores, None)})


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return read_results(*write_results(tmp_path, n=20))


def test_it_has_the_models_with_means_and_scores(results: Results, tmp_path: Path) -> None:
    lines = shown(results, tmp_path).splitlines()
    board = rank_models(results)
    (line,) = [line for line in lines if "demo_large" in line]
    assert str(board.rows[0].ranks) in line
    assert line.count("±") == 1 + len(board.columns)
    assert any("accuracy, %" in line for line in lines)
    assert "≈ not distinguishable" in lines[-1]
    assert "≈" not in shown(alone(next(iter(results)).scores), tmp_path)


def test_a_narrow_terminal_says_what_it_leaves_out(results: Results, tmp_path: Path) -> None:
    text = shown(results, tmp_path, width=60)
    assert max(map(len, text.splitlines())) <= 100
    assert "not shown: 3 more data sets" in text or "not shown: 4 more data sets" in text


@pytest.mark.parametrize("width", range(60, 130, 7))
def test_columns_that_do_not_fit_are_left_out_rather_than_names_cut(
    results: Results, tmp_path: Path, width: int
) -> None:
    text = shown(results, tmp_path, width)
    assert "demo_large" in text
    assert "…" not in text


def test_many_models_are_cut_to_the_best(results: Results, tmp_path: Path) -> None:
    pair = next(iter(results))
    pairs = {}
    for number in range(15):
        model = replace(pair.scores.model, name=f"m{number}")
        metrics = {pair.scores.primary: make_metric(number / 20)}
        pairs[model.name, pair.scores.dataset.name] = Pair(replace(pair.scores, model=model, metrics=metrics), None)
    text = shown(Results(pairs), tmp_path)
    assert "m14" in text
    assert "m4 " not in text
    assert "5 more models" in text
    assert _notes("", 11, 1, False)[-1] == "not shown: 1 more model and 1 more data set"


def test_names_are_shown_as_they_are_and_obeyed_by_no_terminal(results: Results, tmp_path: Path) -> None:
    pair = next(iter(results))
    metric = "a|b*[bold]\x1b[31m"
    scores = replace(pair.scores, metrics={metric: pair.scores.main}, primary=metric)
    text = shown(alone(scores), tmp_path)
    assert "a|b*[bold]\\x1b[31m" in text


def test_remarks_have_a_sign(results: Results, tmp_path: Path) -> None:
    pair = next(iter(results))
    scores = replace(pair.scores, counts=replace(pair.scores.counts, tied=3))
    text = shown(alone(scores), tmp_path)
    assert "†" in text.partition("± half")[0]
    assert "has a remark" in text
    assert "tied" not in text


def test_no_leaderboard_is_no_error(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    print_standings(tmp_path, console)
    (tmp_path / "leaderboard.md").write_text("nothing")
    print_standings(tmp_path, console)
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
