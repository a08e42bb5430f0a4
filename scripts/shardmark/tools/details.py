"""What a plan will do, model by model and data set by data set: for people as a table, for machines as JSON."""

from collections.abc import Callable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from shardmark.plan import Pair, Plan
from shardmark.plan.summary import duration, seconds_together, wall_seconds, work_seconds
from shardmark.tasks.extent import described

Slots = Callable[[Pair], int | None]
"How many jobs of a pair's model can run at once; None if nothing bounds them."
COLUMNS = ("model", "data set", "samples", "shards", "to run", "requests", "work", "GPU hours", "time")


def plan_details(plan: Plan, slots: Slots) -> dict[str, Any]:
    """A plan as JSON: `pairs`, one for each model and data set, and their `total`.

    `seconds` are those of all jobs one after the other, with a load for each of them that run at once; `wall_seconds`
    those until they are done if as many of them run at once as can. A pair's are of a run of it alone: pairs of one
    model share its loads, so their total is less than their sum.
    """
    pairs = [_pair(pair, slots(pair)) for pair in plan.pairs]
    sums = ("shards", "missing_shards", "requests_to_infer")
    return {
        "run": plan.benchmark.run.run,
        "results": str(plan.results),
        "report": str(plan.report),
        "pairs": pairs,
        "total": {key: sum(pair[key] for pair in pairs) for key in sums} | _together(plan, slots),
        "warnings": [str(warning) for warning in plan.warnings],
    }


def _pair(pair: Pair, slots: int | None) -> dict[str, Any]:
    gpus, seconds = pair.model.settings.num_gpus, work_seconds([pair], slots)
    return {
        "model": pair.model.name,
        "model_digest": pair.model.digest,
        "dataset": pair.dataset.name,
        "dataset_digest": pair.dataset.digest,
        "samples": pair.dataset.samples,
        "limit": described(pair.dataset.limit),
        "shards": pair.shards,
        "missing_shards": len(pair.missing),
        "requests_to_infer": pair.requests,
        "scored": pair.scored,
        "num_gpus": gpus,
        "seconds": seconds,
        "gpu_hours": gpus * seconds / 3600,
        "wall_seconds": wall_seconds([pair], slots),
    }


def _together(plan: Plan, slots: Slots) -> dict[str, float]:
    """What everything takes: models share the slots, or, where nothing bounds jobs, run side by side."""
    by_model: dict[str, list[Pair]] = {}
    for pair in plan.pairs:
        by_model.setdefault(pair.model.full_name, []).append(pair)
    works = [work_seconds(pairs, slots(pairs[0])) for pairs in by_model.values()]
    gpus = [pairs[0].model.settings.num_gpus for pairs in by_model.values()]
    return {
        "seconds": sum(works),
        "gpu_hours": sum(count * work for count, work in zip(gpus, works, strict=True)) / 3600,
        "wall_seconds": seconds_together([(pairs, slots(pairs[0])) for pairs in by_model.values()]),
    }


def print_details(details: dict[str, Any], console: Console) -> None:
    """The table of `plan_details`, and its sum in the last line."""
    table = Table(*COLUMNS, box=SIMPLE_HEAD, pad_edge=False, show_footer=False)
    for column in table.columns[2:]:
        column.justify, column.no_wrap = "right", True
    for pair in details["pairs"]:
        table.add_row(pair["model"], pair["dataset"], f"{pair['samples']:,}", *_cells(pair))
    table.add_section()
    table.add_row("total", "", "", *_cells(details["total"]))
    console.print(table)
    limits = {pair["dataset"]: pair["limit"] for pair in details["pairs"] if pair["limit"]}
    for name, limit in limits.items():
        console.print(f"only in part: {name}: {limit}", markup=False, highlight=False)


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['shards']:,}",
        f"{row['missing_shards']:,}",
        f"{row['requests_to_infer']:,}",
        duration(row["seconds"]) if row["missing_shards"] else "",
        f"{row['gpu_hours']:.2f}" if row["gpu_hours"] else "",
        duration(row["wall_seconds"]) if row["missing_shards"] else "",
    ]
