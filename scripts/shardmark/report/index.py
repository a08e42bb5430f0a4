"""The first page: the leaderboard, and what readers must know before trusting it."""

import json
from dataclasses import replace

from .facts import finished
from .formats import figure, margin, number
from .leaderboard import Cell, Column, Leaderboard
from .remarks import (
    endpoints,
    headline,
    incomplete,
    limits,
    of_datasets,
    reasoning,
    reasons_left_out,
    same_rows,
    warnings,
)
from .render import write_page
from .site import Page, Site

STATIC_CELLS, FEWEST, MOST = 1000, 4, 16
"""How many cells are in the page itself, and the least and most columns; the others are chunks, loaded on demand."""
SCRIPTS = ("sort.js", "loader.js", "text.js", "board.js")


def write_index(site: Site, page: Page) -> None:
    """Write the first page, and chunks of the columns that it does not contain."""
    results, board = site.results, site.board
    static = _static(board)
    listed = [
        {"name": column.dataset.name, "chunk": "" if place < static else _chunk(site, column, place)}
        for place, column in enumerate(board.columns)
    ]
    site.write(
        page, "index.html.j2", SCRIPTS, ["controls.css", "board.css"],
        headline=headline(board), left_out=reasons_left_out(board), warnings=warnings(results),
        missing=results.missing(), limits=limits(board), remarks=of_datasets(results), incomplete=incomplete(board),
        reasoning=reasoning(results), endpoints=endpoints(results), same_rows=same_rows(board),
        static=static, listed=json.dumps(listed),
        finished=finished(results), samples=sum(pair.scores.counts.samples for pair in results),
        changes=len(site.changes),
    )  # fmt: skip


def _static(board: Leaderboard) -> int:
    """How many columns of data sets and groups are in a page itself."""
    return min(MOST, max(FEWEST, STATIC_CELLS // max(1, len(board.rows))))


def _chunk(site: Site, column: Column, place: int) -> str:
    """Write a column for templates/board.js to draw."""
    labels = [
        f"{column.metric}{', %' if column.percent else ''}{'' if column.higher_is_better else ' (lower is better)'}",
        column.dataset.part,
        column.asked,
        "" if column.dataset.chance is None else f"chance {number(column.dataset.chance, column.percent)}",
    ]
    return site.chunks.add(
        {
            "higher": column.higher_is_better,
            "labels": [label for label in labels if label],
            "description": column.dataset.description,
            "cells": [_cell(row.cells[place]) for row in site.board.rows],
        }
    )


def _cell(cell: Cell) -> list[object]:
    if cell.metric is None:
        return [cell.absence, cell.about]
    error = margin(cell.metric)
    error = f"±{error}" if error != "–" else error
    return [cell.metric.value, figure(cell.metric), error, cell.standing, cell.about, cell.link, cell.remarks]


def write_metrics(site: Site, page: Page) -> None:
    """Write the page of all metrics."""
    site.write(page, "metrics.html.j2", ["sort.js"])


def write_alone(site: Site) -> None:
    """Write the leaderboard as a page without links, which can be taken out of the report."""
    board = site.board
    rows = [replace(row, cells=[replace(cell, link=None) for cell in row.cells]) for row in board.rows]
    context = {
        "run": site.run, "board": replace(board, rows=rows), "headline": headline(board),
        "left_out": reasons_left_out(board), "limits": limits(board), "same_rows": same_rows(board),
        "incomplete": incomplete(board), "endpoints": endpoints(site.results), "static": _static(board),
    }  # fmt: skip
    write_page(site.env, "leaderboard.html.j2", site.folder / "leaderboard.html", context, ["sort.js"])
