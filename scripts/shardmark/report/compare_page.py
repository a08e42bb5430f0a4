"""The page that compares any two models, or two data sets about the same rows, and the chunks that it loads.

A chunk for each model has its comparisons with all models after it; the page reverses them for those before it.
"""

from itertools import combinations
from typing import Any, NamedTuple

import msgspec
import numpy as np

from shardmark.scoring.comparisons import Numbers, Table, holm

from .compared import Line, compare_datasets
from .site import Page, Site

COMPARISONS = "comparisons"
"The name of the chunk that the page loads first."
SCRIPTS = ("sort.js", "loader.js", "text.js", "compare.js")
DIGITS = 7
"Significant digits of numbers: so many that the page rounds them as if it had all."


class Row(NamedTuple):
    """A line of the page's table; see `scoring.comparisons.Comparison`. None for unknown numbers."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    wins: float | None
    losses: float | None
    n: float | None
    smallest: float | None


class ComparedDataset(msgspec.Struct, frozen=True, kw_only=True):
    """A data set or group, as named in the table."""

    name: str
    metric: str
    percent: bool
    higher: bool
    samples: bool
    "Whether the explorer has its samples."


class TwoDatasets(msgspec.Struct, frozen=True, kw_only=True):
    """Two data sets about the same rows: a line for each model, and the positions of the same rows in both."""

    first: str
    second: str
    models: list[str]
    rows: list[Row]
    places: tuple[list[int], list[int]]


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """The data that the page loads first."""

    models: list[str]
    best: list[str]
    "The two models that are compared first."
    datasets: list[ComparedDataset]
    counted: int
    "How many data sets the mean is over; 0 if there is none."
    weighted: bool
    "Whether the mean has weights."
    chunks: list[str]
    "The chunk of each model's comparisons: for each model after it, a row per data set, and one for the mean."
    pairs: list[tuple[str, str, str]]
    "Two data sets about the same rows, and the chunk of their comparisons."


def wanted(results: Any) -> bool:
    """Whether there is anything to compare."""
    return len(results.models) > 1 or bool(results.same_rows.sets)


def write_compare(site: Site, page: Page) -> None:
    """Write the page with its chunks."""
    board, compared = site.board, site.compared
    columns = [column for column in board.columns if column.metric]
    in_mean = [column.dataset.name for column in board.in_mean]
    tables = [compared.table(column.dataset.name) for column in columns]
    has = np.array([[_has(site, model, column.dataset.name) for model in compared.models] for column in columns])
    higher = np.array([column.higher_is_better for column in columns])
    have_all = np.array([[all(_has(site, model, name) for name in in_mean) for model in compared.models]])
    means = [compared.mean(in_mean)] if in_mean else []
    chunks = []
    for one in range(len(compared.models) - 1):
        lines = _lines(tables, has, higher, one)
        last = _lines(means, have_all, np.array([True]), one) if means else [[None]] * len(lines)
        chunks.append(site.chunks.add([[*own, *mean] for own, mean in zip(lines, last, strict=True)]))
    start = Start(
        models=compared.models,
        best=[row.model.name for row in board.rows[:2]],
        datasets=[
            ComparedDataset(
                name=column.dataset.name,
                metric=column.metric,
                percent=column.percent,
                higher=column.higher_is_better,
                samples=any(p.samples for p in site.results if p.scores.dataset.name == column.dataset.name),
            )
            for column in columns
        ],
        counted=board.counted,
        weighted=bool(board.weights),
        chunks=chunks,
        pairs=list(_pairs(site)),
    )
    site.chunks.add_named(COMPARISONS, start)
    site.write(page, "compare.html.j2", SCRIPTS, ["compare.css"])


def _has(site: Site, model: str, dataset: str) -> bool:
    pair = site.results.get(model, dataset)
    return pair is not None and pair.scores.main.value is not None


def _lines(tables: list[Table], has: Any, higher: Any, one: int) -> list[list[Any]]:
    """For each model after one, a `Row` of its comparison for each data set; None if one of them has no result."""
    rest = slice(one + 1, None)
    both = has[:, one, None] & has[:, rest]
    names = ("difference", "low", "high", "p", "n", "smallest")
    found = {name: np.where(both, np.stack([getattr(t, name)[one, rest] for t in tables]), np.nan) for name in names}
    above, below = (
        np.stack(wins) for wins in zip(*((t.wins[one, rest], t.wins[rest, one]) for t in tables), strict=True)
    )
    is_higher = higher[:, None]
    found |= {"wins": np.where(is_higher, above, below), "losses": np.where(is_higher, below, above)}
    found["p_holm"] = holm(found["p"])
    rows = _rounded(np.stack([found[name] for name in Row._fields]))
    return [[None if np.isnan(line[0]) else line for line in each] for each in rows.transpose(2, 1, 0).tolist()]


def _rounded(values: Numbers) -> Numbers:
    """Numbers rounded to the displayed significant digits; counts stay whole."""
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.floor(np.log10(np.abs(values)))
    scale = 10.0 ** np.where(np.isfinite(size), np.clip(DIGITS - 1 - size, 0, 300), 0)  # 10 ** 309 is infinite
    return np.asarray(np.round(values * scale) / scale)


def _pairs(site: Site) -> Any:
    for names in site.results.same_rows.sets:
        for first, second in combinations(names, 2):
            found = compare_datasets(site.compared, first, second)
            places = site.results.same_rows.aligned(first, second)
            if found.lines and places:  # a third data set may have most rows of both, and these none of each other
                rows, models = [_row(line) for line in found.lines], [line.name for line in found.lines]
                table = TwoDatasets(first=first, second=second, models=models, rows=rows, places=places)
                yield first, second, site.chunks.add(table)


def _row(line: Line) -> Row:
    low, high = line.ci95 or (np.nan, np.nan)
    numbers = [line.difference, low, high, line.p, line.p_holm, line.wins, line.losses, line.n, line.smallest]
    return Row(*_rounded(np.array([np.nan if each is None else each for each in numbers], dtype=float)).tolist())
