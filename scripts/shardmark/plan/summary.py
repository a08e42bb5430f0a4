"""Output while a run is planned: progress, then one table of the remaining work."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from shardmark.plan.cost import Seconds
from shardmark.plan.endpoints import Bill, together
from shardmark.plan.pairs import Pair
from shardmark.plan.plan import Plan
from shardmark.plan.why import reason_lines, reasons
from shardmark.power import smallest_difference
from shardmark.tasks.extent import described

START_SECONDS, SCORE_SECONDS = 4.0, 0.2
"Seconds of a run before its first job and for its report, and for each score: see benchmarks/processes.py."
HARDEST = 3
"The number of data sets to name that can show only large differences."
COLUMNS = ("model", "samples", "shards", "to run", "requests", "to score", "can show", "GPU hours", "time")
MOST_REASONS = 12
"The most lines of reasons under the table."


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str, int], None]]:
    """A function to call with each step that begins and the number of steps: a bar, shown on terminals only."""
    columns = (TextColumn("planning"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        begun = count()
        yield lambda what, of: bar.update(task, description=what, total=of, completed=next(begun))


def print_summary(plan: Plan, console: Console, slots: Callable[[Pair], int | None]) -> None:
    """Print one line per model: shards, those to run with their requests, GPU hours and expected time.

    `slots` returns how many jobs of a pair's model can run at once; None if that is unknown.
    """
    shards, left = sum(p.shards for p in plan.pairs), sum(len(p.missing) for p in plan.pairs)
    wanted = f"{_count(len(plan.models), 'model')} x {_count(len({d.name for d in plan.datasets}), 'data set')}"
    by_model = [list(group) for _, group in groupby(plan.pairs, key=lambda pair: pair.model.full_name)]
    walls = [wall_seconds(pairs, slots(pairs[0])) for pairs in by_model]
    together = seconds_together([(pairs, slots(pairs[0])) for pairs in by_model]) + seconds_beside(plan.pairs)
    unscored = sum(not pair.scored for pair in plan.pairs)
    title = f"{wanted} -> {_count(shards, 'shard')}, {left:,} to run" + f", {unscored:,} to score" * (unscored > 0)
    title += f", about {duration(together)}" * (left > 0)
    table = Table(*COLUMNS, title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.columns[0].overflow, table.columns[0].min_width = "fold", 10
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for pairs, wall in zip(by_model, walls, strict=True):
        _add_row(table, pairs, wall, slots(pairs[0]))
    console.print(table)
    for line in reason_lines(reasons(plan.pairs, plan.results), MOST_REASONS):
        console.print(line, markup=False, highlight=False)
    for name, bill in bills(plan.pairs).items():
        pace = f", at least {duration(bill.least_seconds)} at its pace" * (bill.least_seconds > 0)
        console.print(f"endpoint of {name}: {bill}{pace}", markup=False, highlight=False)
    for line in [*rescore_lines(plan), *plan.shared, *limit_lines(plan), *power_lines(plan)]:
        console.print(line, markup=False, highlight=False)


def bills(pairs: list[Pair]) -> dict[str, Bill]:
    """The bill for the missing requests of models behind endpoints, by the model's name."""
    found: dict[str, Bill] = {}
    for pair in pairs:
        if pair.bill and pair.requests:
            name = pair.model.name
            found[name] = together(found[name], pair.bill) if name in found else pair.bill
    return found


def rescore_lines(plan: Plan) -> list[str]:
    """Lines on the parts that a plan without inference leaves out."""
    if not plan.benchmark.run.rescore:
        return []
    lines = ["rescore: nothing is inferred; the report covers the existing answers"]
    return lines + [f"not in the report: {gap.model.name} on {gap.dataset.name}: {gap.reason}" for gap in plan.gaps]


def limit_lines(plan: Plan) -> list[str]:
    """Lines on the part of each data set that a limit leaves."""
    found = [(dataset.name, described(dataset.limit)) for dataset in plan.datasets]
    return list(dict.fromkeys(f"only in part: {name}: {limit}" for name, limit in found if limit))


def power_lines(plan: Plan) -> list[str]:
    """An explanation of "can show", and the data sets that can only show large differences by themselves."""
    by_name = {dataset.name: dataset.samples for dataset in plan.datasets}
    hardest = sorted(by_name, key=lambda name: (by_name[name], name))[:HARDEST]
    named = ", ".join(f"{name} {can_show([by_name[name]])} ({_count(by_name[name], 'sample')})" for name in hardest)
    if not named:
        return []
    what = "can show: the smallest difference of two models' means that is detected in at least 80 of 100 cases"
    return [f"{what}; for single data sets: {named}" + ", ..." * (len(by_name) > len(hardest))]


def can_show(samples: Sequence[int]) -> str:
    """The smallest difference of two models' unweighted means over data sets of these sizes, in percent."""
    share = smallest_difference(len(samples) ** 2 / sum(1 / each for each in samples))
    return f"{100 * share:.1f} %"


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
        f"{sum(not pair.scored for pair in pairs):,}",
        can_show([pair.dataset.samples for pair in pairs]),
        f"{gpus * seconds / 3600:.1f}" if gpus else "",
        duration(wall),
    )


def work_seconds(pairs: list[Pair], slots: int | None) -> float:
    """Total seconds of a model's jobs if `slots` of them run at once (None: all) and each slot loads the model once."""
    inference, load = _inference_and_load(pairs)
    return inference + load * _places(pairs, slots)


def wall_seconds(pairs: list[Pair], slots: int | None) -> float:
    """Seconds until a model's jobs are done if `slots` run at once (None: all).

    At least the longest job's, and those that the pace of an endpoint requires.
    """
    inference, load = _inference_and_load(pairs)
    longest = max((pair.longest for pair in pairs), default=0.0)
    paced = sum(pair.bill.least_seconds for pair in pairs if pair.bill)
    return max(longest, load + inference / max(1, _places(pairs, slots)), paced)


def seconds_together(models: list[tuple[list[Pair], int | None]]) -> float:
    """Seconds until the jobs of several models, each with its slots, are done.

    Slots that one model has no job for serve the next. So the time is that of all work through the slots, and at least
    that of the slowest model.
    """
    shares = sum(work_seconds(pairs, slots) / slots for pairs, slots in models if slots)
    return max(shares, max((wall_seconds(pairs, slots) for pairs, slots in models), default=0.0))


def seconds_beside(pairs: list[Pair]) -> float:
    """Seconds that a run takes besides inference: the start, the scores, one after another, and the report."""
    return START_SECONDS + SCORE_SECONDS * sum(not pair.scored for pair in pairs)


def _inference_and_load(pairs: list[Pair]) -> Seconds:
    """Seconds of one model's jobs: the sum of inference, and one load."""
    inference = sum(pair.seconds.inference for pair in pairs)
    return Seconds(inference, max((pair.seconds.load for pair in pairs), default=0.0))


def _places(pairs: list[Pair], slots: int | None) -> int:
    """The number of jobs of a model that really run at once."""
    parts = sum(len(pair.missing) if pair.jobs is None else pair.jobs for pair in pairs)
    jobs = math.ceil(parts - 1e-6)  # thirds of a job do not add up to 1 exactly
    return min(jobs, slots) if slots else jobs


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Seconds in a suitable unit: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
