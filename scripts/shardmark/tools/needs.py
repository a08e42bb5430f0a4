"""What plans need of a results folder, by the keys that stand in paths."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from shardmark import layout
from shardmark.errors import UserError
from shardmark.plan import Pair, Plan
from shardmark.plan.shard_counts import Divisions
from shardmark.records.base import find_sealed, read_sealed_record
from shardmark.records.dataset import DatasetRecord
from shardmark.records.model import GgufFile
from shardmark.records.shard import ShardLists

Needs = dict[str, set[str]]
"""Keys by what they name: `model` and `task` (name@digest), `request` (data set/shard), `prediction` (model/data
set/shard), `pair` (model/data set), `score` (model/data set@digest), `memo`, `weights`, `report`, and `run`."""


def needs_of(plans: Iterable[Plan]) -> Needs:
    """What some plans of one results folder need together."""
    needs: Needs = defaultdict(set)
    for plan in plans:
        for record in plan.models:
            needs["model"].add(record.full_name)
            if isinstance(record.source, GgufFile):
                needs["weights"].add(record.source.identity.gguf[:16])
        needs["task"] |= {record.full_name for record in plan.datasets}
        for pair in plan.pairs:
            _add_pair(needs, plan, pair)
        needs["run"].add(plan.published.name)
        needs["report"].add(plan.report.name)
        if plan.published.is_symlink():  # the newest report that is finished, until there is a newer one
            needs["report"].add(os.readlink(plan.published))
        needs["memo"] |= {memo.stem for memo in layout.MEMOS.found(plan.results) if _leads_to(memo, needs)}
    return needs


def _add_pair(needs: Needs, plan: Plan, pair: Pair) -> None:
    model, dataset = pair.model.full_name, pair.dataset.name
    needs["pair"].add(f"{model}/{dataset}")
    needs["score"].add(f"{model}/{layout.full_name(dataset, pair.dataset.digest)}")
    shards = _shards(plan, pair)
    if shards is None:  # it has been scored, and its division is lost: any of its predictions may be the right ones
        folder = layout.PREDICTIONS.folder(plan.results, model=model, dataset=dataset)
        shards = {path.name.partition(".")[0] for path in folder.glob("*")}
    needs["prediction"] |= {f"{model}/{dataset}/{shard}" for shard in shards}
    needs["request"] |= {f"{dataset}/{shard}" for shard in shards}


def _shards(plan: Plan, pair: Pair) -> set[str] | None:
    """The names of the shards that a pair is divided into; None if that is not known."""
    divisions = Divisions(plan.results, pair.model.full_name, plan.benchmark.run)
    path = layout.SHARDS.file(plan.results, dataset=pair.dataset.name, task=pair.dataset.digest)
    try:
        level = read_sealed_record(path, ShardLists).level(divisions.bits(pair.dataset.name))
        return {shard.name for shard in level}
    except (UserError, KeyError):
        return None


def _leads_to(memo: Path, needs: Needs) -> bool:
    """Whether a memo of planning stands for one of the tasks."""
    record = find_sealed(memo, DatasetRecord)
    return record is not None and record.full_name in needs["task"]
