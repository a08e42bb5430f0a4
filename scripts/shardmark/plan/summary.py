"""What the user sees while a run is planned: progress, then one table of what is left to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, groupby

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from shardmark.plan.plan import Outlook, Plan, outlook


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str, int], None]]:
    """A function to call with each step that begins and their number: a bar, shown on terminals only."""
    columns = (TextColumn("planning"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        begun = count()
        yield lambda what, of: bar.update(task, description=what, total=of, completed=next(begun))


def print_summary(plan: Plan, console: Console) -> None:
    """One line a model: shards, how many are to run, and the time they should take."""
    rows = outlook(plan)
    left = sum(row.to_run for row in rows)
    shards = sum(row.shards for row in rows)
    wanted = f"{_count(len(plan.models), 'model')} x {_count(len(plan.datasets), 'data set')}"
    title = f"{wanted} -> {_count(shards, 'shard')}, {left} to run"
    table = Table("model", "data sets", "samples", "shards", "to run", "estimated", title=title, title_justify="left")
    samples = sum(dataset["samples"] for dataset in plan.datasets)
    for name, group in groupby(rows, key=lambda row: row.model):
        _add_row(table, name, list(group), samples)
    console.print(table)


def _add_row(table: Table, name: str, rows: list[Outlook], samples: int) -> None:
    for column in table.columns[1:]:
        column.justify = "right"
    seconds = sum(row.seconds for row in rows)
    to_run = sum(row.to_run for row in rows)
    table.add_row(
        name, str(len(rows)), f"{samples:,}", str(sum(row.shards for row in rows)), str(to_run), _duration(seconds)
    )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _duration(seconds: float) -> str:
    """Seconds in the unit that fits: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
