"""The charts as SVG: complete, escaped, and free of what a page would have to fetch."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec import structs

from shardmark.report.heatmap import heat_map
from shardmark.report.intervals import interval_panels, mean_panel, whole_tens
from shardmark.report.leaderboard import Cell, Leaderboard, rank_models
from shardmark.report.results import read_results
from unit.report.fake_results import write_results

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    return rank_models(read_results(*write_results(tmp_path_factory.mktemp("fake"), n=20)))


def test_each_cell_of_the_heat_map_has_a_title(board: Leaderboard) -> None:
    titles = re.findall(r"<title>([^<]*)</title>", heat_map(board))
    assert len(titles) == 3 * 4
    assert "demo_tiny on demo_reading_comprehension: token_f1 not run" in titles


def test_a_missing_pair_is_written_in_its_cell(board: Leaderboard) -> None:
    assert heat_map(board).count(">not run<") == 1


def test_there_is_a_panel_for_the_mean_and_for_each_data_set(board: Leaderboard) -> None:
    mean = mean_panel(board)
    assert mean is not None
    assert mean.remark == "of 3 data sets"
    assert [panel.title for panel in interval_panels(board)] == [c.dataset.name for c in board.columns]


def test_the_chance_level_is_drawn_where_it_is_known(board: Leaderboard) -> None:
    assert ["chance level 25" in panel.svg for panel in interval_panels(board)] == [False, True, False, False]


def test_charts_bring_no_font_link_or_script(board: Leaderboard) -> None:
    svg = heat_map(board) + interval_panels(board)[0].svg
    assert "font-family" not in svg
    assert "href" not in svg
    assert {
        element.tag.split("}")[1]
        for element in ElementTree.fromstring(f"<all>{svg}</all>").iter()
        if "}" in element.tag
    } <= {
        *("svg", "g", "path", "line", "text", "title", "tspan"),
    }


def test_hostile_names_are_escaped(board: Leaderboard) -> None:
    rows = [
        replace(row, model=structs.replace(row.model, name=HOSTILE), cells=hostile(row.cells)) for row in board.rows[:1]
    ]
    svg = heat_map(replace(board, rows=rows))
    assert HOSTILE not in svg
    assert "&lt;script&gt;" in svg


def hostile(cells: list[Cell]) -> list[Cell]:
    return [replace(cell, model=HOSTILE) for cell in cells]


def test_a_metric_that_is_no_fraction_gets_its_own_axis(tmp_path: Path, board: Leaderboard) -> None:
    column = replace(board.columns[0], percent=False, metric="bits_per_byte")
    cells = [replace(row.cells[0], column=column) for row in board.rows]
    cells = [replace(cell, metric=cell.metric and structs.replace(cell.metric, percent=False)) for cell in cells]
    rows = [replace(row, cells=[cell]) for row, cell in zip(board.rows, cells, strict=True)]
    (panel,) = interval_panels(Leaderboard([column], rows))
    assert panel.metric == "bits_per_byte"
    far = structs.replace(cells[0].metric, value=9e4, ci95=(1.0, 2.0))  # as of a bootstrap
    (panel,) = interval_panels(Leaderboard([column], [replace(rows[0], cells=[replace(cells[0], metric=far)])]))
    assert float(re.findall(r'width="([\d.]+)"', panel.svg)[0]) < 400


@pytest.mark.parametrize(
    ("ends", "axis"),
    [((0.25, 0.7), (20, 70)), ((0.41, 0.411), (40, 50)), ((-0.2, 1.3), (0, 100)), ((1.0, 1.0), (90, 100))],
)
def test_the_percent_axis_spans_whole_tens(ends: tuple[float, float], axis: tuple[int, int]) -> None:
    assert whole_tens(*ends) == axis
