"""The leaderboard for other programs."""

import csv
import io
import re
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from msgspec.structs import replace

from shardmark.records.score import SoFar
from shardmark.report.exports import CSV_COLUMNS, leaderboard_csv, leaderboard_markdown
from shardmark.report.leaderboard import Cell, Column, Leaderboard, Row, rank_models
from shardmark.report.pair import Pair
from shardmark.report.results import Results, read_results
from unit.report.fake_results import make_metric, write_results


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return read_results(*write_results(tmp_path, n=20))


def test_the_csv_has_a_row_for_each_metric_of_each_pair(results: Results) -> None:
    frame = pd.read_csv(io.StringIO(leaderboard_csv(results)))
    assert list(frame.columns) == CSV_COLUMNS
    assert len(frame) == sum(len(pair.scores.metrics) for pair in results)


def test_the_csv_gives_back_the_same_numbers(results: Results) -> None:
    frame = pd.read_csv(io.StringIO(leaderboard_csv(results)))
    metric = results.pairs["demo_large", "demo_capitals"].scores.main
    row = frame.query("model == 'demo_large' and dataset == 'demo_capitals' and metric == 'accuracy'").iloc[0]
    assert (row["value"], row["stderr"], row["n"]) == (metric.value, metric.stderr, metric.n)
    assert (row["ci95_low"], row["ci95_high"]) == metric.ci95


def test_the_markdown_table_has_a_row_a_model_and_shows_what_was_not_run(results: Results) -> None:
    header, ruler, *rows = leaderboard_markdown(rank_models(results)).split("\n\n")[0].splitlines()
    assert header.count("|") == ruler.count("|") == 8
    assert len(rows) == 3
    assert rows[-1].endswith("| not run |")


def test_markdown_escapes_what_would_break_the_table(results: Results) -> None:
    board = rank_models(results)
    column = Column(board.columns[0].dataset, "a|b <i>", True, True, True)
    cell = Cell("m", column, make_metric(0.5), "best", None)
    row = Row(1, board.rows[0].model, None, "", [cell])
    text = leaderboard_markdown(Leaderboard([column], [row]))
    assert "(a\\|b &lt;i>, %)" in text
    assert "**50.0** ± –" in text


@pytest.mark.parametrize("metric", ["=1+1", "+x", "-x", "@SUM(A1)", "\tx", "=cmd|' /C calc'!A0", "＝1"])
def test_no_text_in_the_csv_is_a_formula(results: Results, metric: str) -> None:
    pair = next(iter(results))
    scores = replace(pair.scores, metrics={metric: pair.scores.main}, primary=metric)
    text = leaderboard_csv(Results({("m", "d"): Pair(scores, None)}))
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["metric"] == f"'{metric}"
    negative = replace(scores.main, value=-0.5)
    text = leaderboard_csv(Results({("m", "d"): Pair(replace(scores, metrics={metric: negative}), None)}))
    assert next(csv.DictReader(io.StringIO(text)))["value"] == "-0.5"


@pytest.mark.parametrize("metric", ["a;=1+1", "a; @SUM(A1)", "a\n-1", 'a";=cmd', "a\t+1"])
def test_no_part_of_a_text_is_a_formula_where_other_signs_separate_cells(results: Results, metric: str) -> None:
    pair = next(iter(results))
    scores = replace(pair.scores, metrics={metric: pair.scores.main}, primary=metric)
    (row,) = csv.DictReader(io.StringIO(leaderboard_csv(Results({("m", "d"): Pair(scores, None)}))))
    assert not re.search(r"[;\t\r\n]\s*[=+@-]", row["metric"])
    assert row["metric"].replace("'", "") == metric


def test_a_part_of_a_run_is_said_beside_the_limit(results: Results) -> None:
    pair = next(iter(results))
    so_far = SoFar(shards=2, of_shards=8, samples=30, of=116)
    scores = replace(pair.scores, counts=replace(pair.scores.counts, so_far=so_far))
    (row, *_) = csv.DictReader(io.StringIO(leaderboard_csv(Results({("m", "d"): Pair(scores, None)}))))
    assert row["limit"] == "so far 30 of 116 samples (first 2 of 8 shards)"


@pytest.mark.parametrize(
    "metric",
    [
        "![x](http://evil/p.png)", "[x](javascript:alert)", "*b*", "**b**", "`code`", "a|b", "<b>", "_i_", "~~s~~",
        "$x$", "www.evil.com", "https://evil.com", "a\nb", "\x1b[31mred", "\u202eevil", "# h", "{x}", "\\| a", "a\\",
    ],
)  # fmt: skip
def test_markdown_shows_a_name_as_it_is(results: Results, metric: str) -> None:
    board = rank_models(results)
    column = Column(board.columns[0].dataset, metric, False, True, True)
    header = leaderboard_markdown(Leaderboard([column], [])).partition("\n")[0]
    cell = header.split("Mean (%) | ")[1].removesuffix(" |")
    assert not re.search(r"(?<!\\)(?:\\\\)*[\[\]*`|_~$!#{}<]|www\.|\w://|[\x00-\x1f\u202e]", cell)
    if metric.isprintable():
        html = MarkdownIt("commonmark").renderInline(cell)
        assert unescape(html) == f"{column.dataset.name} ({metric})"
