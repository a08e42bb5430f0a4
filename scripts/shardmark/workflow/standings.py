"""The leaderboard on the terminal at the end of a run, from the report's leaderboard.md: the best models that fit."""

import re
from html import unescape
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shardmark.printable import printable

SHOWN = 10
"The most models."
FIXED = 3
"Columns that are always shown: rank, model and mean."
PADDING = 1
GAP = 2 * PADDING + 1
"The number of characters between two columns: their padding, and the box's own."
CELL = re.compile(r"((?:\\.|[^\\|])+)\|")
REMARK = re.compile(r"(?<=\d| ) \((?P<remark>.+)\)$")
SIGN = "†"


def print_standings(report: Path, console: Console) -> None:
    """Print the leaderboard in a report's folder; nothing if it cannot be read."""
    try:
        text = (report / "leaderboard.md").read_text("utf-8")
    except (OSError, ValueError):
        return
    header, _, *rows = [_cells(line) for line in text.splitlines() if line.startswith("| ")] or [[], []]
    if not rows:
        return
    fit = _fitting([header, *rows[:SHOWN]], console.width)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, PADDING))
    for place, name in enumerate(header[:fit]):
        table.add_column(_heading(name), justify="left" if place == 1 else "right", no_wrap=place > 1)
    for row in rows[:SHOWN]:
        table.add_row(*map(Text, map(_short, row[:fit])))
    console.print(table)
    for line in _notes(
        text, len(rows), len(header) - fit, any(REMARK.search(c) for r in rows[:SHOWN] for c in r[:fit])
    ):
        console.print(line, markup=False, highlight=False)


def _cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table, as displayed."""
    found = (cell.strip().replace("**", "") for cell in CELL.findall(line[1:]))
    return [printable(unescape(re.sub(r"\\(.)", r"\1", cell))) for cell in found]


def _fitting(rows: list[list[str]], width: int) -> int:
    """The number of columns that fit into a line."""
    widths = [
        max(_width(cell, is_heading=not n) for n, cell in enumerate(column)) + GAP
        for column in zip(*rows, strict=False)
    ]
    fit = FIXED
    while fit < len(widths) and sum(widths[: fit + 1]) <= width:
        fit += 1
    return fit


def _width(cell: str, is_heading: bool) -> int:
    return max(map(len, _heading(cell).plain.splitlines()), default=0) if is_heading else len(_short(cell))


def _heading(name: str) -> Text:
    """A data set's name, and on a second line its metric and other remarks."""
    first, bracket, rest = name.partition(" (")
    return Text(f"{first}\n{rest.removesuffix(')')}" if bracket else name)


def _short(cell: str) -> str:
    """A score with a sign in the place of its remarks."""
    return REMARK.sub(f" {SIGN}", cell)


def _notes(text: str, models: int, columns: int, has_remarks: bool) -> list[str]:
    first = next((line for line in text.splitlines() if line.startswith("**Incomplete")), "")
    left = {"model": models - SHOWN, "data set": columns}
    more = [f"{number} more {kind}{'s' * (number > 1)}" for kind, number in left.items() if number > 0]
    return [
        *([first.strip("*")] if first else []),
        "± half the 95 % interval" + "; ≈ not distinguishable from the best" * (models > 1),
        *([f"{SIGN} has a remark: see the report"] if has_remarks else []),
        *([f"not shown: {' and '.join(more)}"] if more else []),
    ]
