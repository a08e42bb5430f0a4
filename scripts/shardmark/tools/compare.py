"""Comparisons of a report's models or data sets, and of two reports, as tables of text and as JSON."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from shardmark.errors import Problem, UserError
from shardmark.export.finished import read_finished
from shardmark.printable import printable
from shardmark.report.changes import Change, changes
from shardmark.report.compared import Compared, Line, check_names, compare_datasets, compare_models
from shardmark.report.formats import number, p_value
from shardmark.report.paired import Comparisons

SHOWN = 20
"The most flips of a change that are listed in the terminal."


def compare_report(report: Path, models: Sequence[str], datasets: Sequence[str]) -> list[Compared]:
    """Compare a report's models with each other, all or the named ones; or two data sets, if only these are named.

    Raises UserError for unknown names, and for data sets that do not ask about the same rows.
    """
    compared = Comparisons(read_finished(report).scored)
    if len(datasets) == 2 and not models:
        return [compare_datasets(compared, *datasets)]
    names = models or compared.models
    if len(names) < 2:
        check_names("models", models, compared.models)
        fix = "name two" if len(compared.models) > 1 else "run another one, or compare two data sets: --datasets A B"
        raise UserError(Problem("--models", "", "there is only one model to compare", fix))
    return [compare_models(compared, one, other, datasets) for one, other in combinations(names, 2)]


def compare_reports(report: Path, against: Path) -> list[Change]:
    """The differences of a report from an earlier one or from that of another run. Raises UserError."""
    return changes(read_finished(against).scored, read_finished(report).scored)


def comparison_table(found: Compared) -> Table:
    """A table with a line for each comparison, and one for the mean."""
    title = f"{found.first} – {found.second}"
    what = "data set" if found.kind == "models" else "model"
    columns = (what, "metric", "difference", "95 % interval", "p (Holm)", "wins", "losses", "ties", "can show")
    table = Table(title=escape(printable(title)), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in (what, "metric") else "right")
    for line in found.lines:
        table.add_row(*_cells(line))
    if found.mean:
        table.add_section()
        table.add_row(*_cells(found.mean))
    return table


def _cells(line: Line) -> list[str]:
    def shown(value: float | None) -> str:
        return "–" if value is None else f"{'+' if value > 0 else ''}{number(value, line.percent)}"

    ends = f"{shown(line.ci95[0])} to {shown(line.ci95[1])}" if line.ci95 else "–"
    mark = {"first": " *", "second": " *", "": "  "}[line.better]
    counts = ["–" if count is None else f"{count:,}" for count in (line.wins, line.losses, line.ties)]
    unit = f"{line.metric}, %" if line.percent else line.metric
    names = [escape(printable(text)) for text in (line.name, unit)]
    return [
        *names,
        shown(line.difference),
        ends,
        p_value(line.p_holm) + mark,
        *counts,
        shown(line.smallest).lstrip("+"),
    ]


def legend(found: Compared) -> Iterator[str]:
    """Notes for the table's readers."""
    yield "* significant at the 5 % level, corrected for the lines of the table (Holm); see docs/report.md"
    if found.left_out:
        yield f"no results of both: {', '.join(found.left_out)}"


def changes_table(found: Sequence[Change]) -> Table:
    """A table with a line for each model and data set that differs."""
    columns = ("model", "data set", "metric", "before", "now", "p (Holm)", "flipped", "changed")
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for change in found:
        before, after = (number(m.value, m.percent) if m else "–" for m in (change.before, change.after))
        p = p_value(change.p_holm)
        table.add_row(
            *(escape(printable(text)) for text in (change.model, change.dataset, change.metric)),
            *(before, after, p, f"{len(change.flips):,}" if change.before and change.after else change.status),
            escape(printable("; ".join(cause.what for cause in change.causes))),
        )
    return table


def changed_samples(found: Sequence[Change]) -> Iterator[str]:
    """Lines for samples that flipped, the first ones of each model and data set; and for the digests that changed."""
    for change in found:
        name = f"{change.model} on {change.dataset}"
        for cause in change.causes:
            yield f"{name}: {cause.what} ({cause.part}: {cause.before} before, {cause.after} now)"
        for flip in change.flips[:SHOWN]:
            yield f"{name}, sample {flip.sample}: {flip.before} before, {flip.after} now"
        if len(change.flips) > SHOWN:
            yield f"{name}: {len(change.flips) - SHOWN:,} more samples flipped; --json lists all"
