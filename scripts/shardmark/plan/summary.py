"""What the user sees while a run is planned: progress, then one table of what is left to do."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from shardmark.plan.cost import Seconds
from shardmark.plan.pairs import Pair
from shardmark.plan.plan import Plan
from shardmark.tasks.extent import described

COLUMNS = ("model", "samples", "shards", "to run", "requests", "GPU hours", "time")


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str, int], None]]:
    """A function to call with each step that begins and their number: a bar, shown on terminals only."""
    columns = (TextColumn("planning"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        begun = count()
        yield lambda what, of: bar.update(task, description=what, total=of, completed=next(begun))


def print_summary(plan: Plan, console: Console, slots: Callable[[Pair], int | None]) -> None:
    """One line a model: shards, how many are to run with how many requests, GPU hours and the time they should take.

    `slots` tells how many jobs of a pair's model can run at once; None if that is unknown.
    """
    shards, left = sum(p.shards for p in plan.pairs), sum(len(p.missing) for p in plan.pairs)
    wanted = f"{_count(len(plan.models), 'model')} x {_count(len({d.name for d in plan.datasets}), 'data set')}"
    by_model = [list(group) for _, group in groupby(plan.pairs, key=lambda pair: pair.model.full_name)]
    walls = [wall_seconds(pairs, slots(pairs[0])) for pairs in by_model]
    together = seconds_together([(pairs, slots(pairs[0])) for pairs in by_model])
    title = f"{wanted} -> {_count(shards, 'shard')}, {left:,} to run" + f", about {duration(together)}" * (left > 0)
    table = Table(*COLUMNS, title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for pairs, wall in zip(by_model, walls, strict=True):
        _add_row(table, pairs, wall, slots(pairs[0]))
    console.print(table)
    for line in limit_lines(plan):
        console.print(line, markup=False, highlight=False)


def limit_lines(plan: Plan) -> list[str]:
    """What part of each data set a limit leaves, to be said beside the plan."""
    found = [(dataset.name, described(dataset.limit)) for dataset in plan.datasets]
    return list(dict.fromkeys(f"only in part: {name}: {limit}" for name, limit in found if limit))


def _add_row(table: Table, pairs: list[Pair], wall: float, slots: int | None) -> None:
    model = pairs[0].model
    gpus = model.settings.num_gpus
    seconds = work_seconds(pairs, slots)
    table.add_row(
        model.name,
        f"{sum(pair.dataset.samples for pair in pairs):,}",
        f"{sum(pair.shards for pair in pairs):,}",
        f"{sum(len(pair.missing) for pair in pairs):,}",
        f"{sum(pair.requests for pair in pairs):,}",
        f"{gpus * seconds / 3600:.1f}" if gpus else "",
        duration(wall),
    )


def work_seconds(pairs: list[Pair], slots: int | None) -> float:
    """Seconds of a model's jobs one after the other if `slots` of them run at once (None: all), each place loading it
    once."""
    inference, load = _inference_and_load(pairs)
    return inference + load * _places(pairs, slots)


def wall_seconds(pairs: list[Pair], slots: int | None) -> float:
    """Seconds until a model's jobs are done if `slots` of them run at once (None: all): at least the longest one's."""
    inference, load = _inference_and_load(pairs)
    longest = max((pair.longest for pair in pairs), default=0.0)
    return max(longest, load + inference / max(1, _places(pairs, slots)))


def seconds_together(models: list[tuple[list[Pair], int | None]]) -> float:
    """Seconds until the jobs of several models, each with its slots, are done.

    Slots that one model has no job for serve the next: so it is the work that goes through them, and at least as much
    as the slowest model takes.
    """
    shares = sum(work_seconds(pairs, slots) / slots for pairs, slots in models if slots)
    return max(shares, max((wall_seconds(pairs, slots) for pairs, slots in models), default=0.0))


def _inference_and_load(pairs: list[Pair]) -> Seconds:
    """Of all jobs of one model: the inference of each, and one load."""
    inference = sum(pair.seconds.inference for pair in pairs)
    return Seconds(inference, max((pair.seconds.load for pair in pairs), default=0.0))


def _places(pairs: list[Pair], slots: int | None) -> int:
    """How many jobs of a model really run at once."""
    parts = sum(len(pair.missing) if pair.jobs is None else pair.jobs for pair in pairs)
    jobs = math.ceil(parts - 1e-6)  # thirds of a job do not add up to it exactly
    return min(jobs, slots) if slots else jobs


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Seconds in the unit that fits: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
