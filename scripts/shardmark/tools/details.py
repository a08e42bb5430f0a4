"""The work of a plan by model and data set: as a table for people, as JSON for machines."""

from collections.abc import Callable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from shardmark.plan.pairs import Pair
from shardmark.plan.plan import Plan
from shardmark.plan.summary import duration, seconds_together, wall_seconds, work_seconds
from shardmark.plan.why import Reason, reason_lines, reasons
from shardmark.power import smallest_difference
from shardmark.records.base import Record
from shardmark.tasks.extent import described

Slots = Callable[[Pair], int | None]
"The number of jobs of a pair's model that can run at once; None if unlimited."
HEAD = ("model", "data set", "samples", "shards", "to run", "requests", "to score")
COLUMNS = (*HEAD, "can show", "work", "GPU hours", "time")


class PairDetails(Record):
    """The planned work of a model on a data set; `seconds` and `wall_seconds` are those of `plan_details`."""

    model: str
    model_digest: str
    dataset: str
    dataset_digest: str
    samples: int
    limit: str
    "The part of the data set that is asked, in words; empty for all of it."
    shards: int
    missing_shards: int
    requests_to_infer: int
    smallest_difference: float
    "The smallest difference of two models' scores, as a fraction, that is detected in 80 of 100 cases, at worst."
    scored: bool
    num_gpus: int
    seconds: float
    gpu_hours: float
    wall_seconds: float


class TotalDetails(Record):
    """The planned work in total."""

    shards: int
    missing_shards: int
    requests_to_infer: int
    to_score: int
    seconds: float
    gpu_hours: float
    wall_seconds: float


class PlanDetails(Record):
    """A plan for people and machines."""

    run: str
    results: str
    report: str
    pairs: list[PairDetails]
    total: TotalDetails
    warnings: list[str]
    reasons: list[Reason]
    "The reason why each pair to run or score has work."
    store: list[str]
    "Answers taken from the shared store, in words."


def plan_details(plan: Plan, slots: Slots) -> PlanDetails:
    """The planned work for each model and data set, and in total.

    `seconds` is the time of all jobs one after the other, with one load for each of those that run at once;
    `wall_seconds` is the time until they are done, with as many at once as possible. The figures of a pair are for
    running it alone: pairs of one model share its loads, so the total is less than the sum.
    """
    return PlanDetails(
        run=plan.benchmark.run.run,
        results=str(plan.results),
        report=str(plan.report),
        pairs=[_pair(pair, slots(pair)) for pair in plan.pairs],
        total=_total(plan, slots),
        warnings=[str(warning) for warning in plan.warnings],
        reasons=reasons(plan.pairs, plan.results),
        store=plan.shared,
    )


def _pair(pair: Pair, slots: int | None) -> PairDetails:
    gpus, seconds = pair.model.settings.num_gpus, work_seconds([pair], slots)
    return PairDetails(
        model=pair.model.name,
        model_digest=pair.model.digest,
        dataset=pair.dataset.name,
        dataset_digest=pair.dataset.digest,
        samples=pair.dataset.samples,
        limit=described(pair.dataset.limit),
        shards=pair.shards,
        missing_shards=len(pair.missing),
        requests_to_infer=pair.requests,
        smallest_difference=smallest_difference(pair.dataset.samples),
        scored=pair.scored,
        num_gpus=gpus,
        seconds=seconds,
        gpu_hours=gpus * seconds / 3600,
        wall_seconds=wall_seconds([pair], slots),
    )


def _total(plan: Plan, slots: Slots) -> TotalDetails:
    """The total work: models share the slots or, if jobs are unlimited, run side by side."""
    by_model: dict[str, list[Pair]] = {}
    for pair in plan.pairs:
        by_model.setdefault(pair.model.full_name, []).append(pair)
    works = [work_seconds(pairs, slots(pairs[0])) for pairs in by_model.values()]
    gpus = [pairs[0].model.settings.num_gpus for pairs in by_model.values()]
    return TotalDetails(
        shards=sum(pair.shards for pair in plan.pairs),
        missing_shards=sum(len(pair.missing) for pair in plan.pairs),
        requests_to_infer=sum(pair.requests for pair in plan.pairs),
        to_score=sum(not pair.scored for pair in plan.pairs),
        seconds=sum(works),
        gpu_hours=sum(count * work for count, work in zip(gpus, works, strict=True)) / 3600,
        wall_seconds=seconds_together([(pairs, slots(pairs[0])) for pairs in by_model.values()]),
    )


def print_details(details: PlanDetails, console: Console) -> None:
    """Print the table of a plan, with the total in the last line."""
    table = Table(*COLUMNS, box=SIMPLE_HEAD, pad_edge=False, show_footer=False)
    for column in table.columns[2:]:
        column.justify, column.no_wrap = "right", True
    for pair in details.pairs:
        table.add_row(pair.model, pair.dataset, f"{pair.samples:,}", *_cells(pair))
    table.add_section()
    table.add_row("total", "", "", *_cells(details.total))
    console.print(table)
    for line in reason_lines(details.reasons):
        console.print(line, markup=False, highlight=False)
    limits = {pair.dataset: pair.limit for pair in details.pairs if pair.limit}
    for name, limit in limits.items():
        console.print(f"only in part: {name}: {limit}", markup=False, highlight=False)
    for line in details.store:
        console.print(line, markup=False, highlight=False)


def _cells(row: PairDetails | TotalDetails) -> list[str]:
    return [
        f"{row.shards:,}",
        f"{row.missing_shards:,}",
        f"{row.requests_to_infer:,}",
        f"{int(not row.scored) if isinstance(row, PairDetails) else row.to_score:,}",
        f"{100 * row.smallest_difference:.1f} %" if isinstance(row, PairDetails) else "",
        duration(row.seconds) if row.missing_shards else "",
        f"{row.gpu_hours:.2f}" if row.gpu_hours else "",
        duration(row.wall_seconds) if row.missing_shards else "",
    ]
