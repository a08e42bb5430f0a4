"""The needs of plans from a results folder, as keys that occur in paths."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from shardmark import layout
from shardmark.errors import UserError
from shardmark.plan.pairs import Pair
from shardmark.plan.plan import Plan
from shardmark.plan.shard_counts import Divisions
from shardmark.records.base import find_sealed, read_sealed_record
from shardmark.records.dataset import DatasetRecord
from shardmark.records.model import GgufFile
from shardmark.records.shard import ShardLists


@dataclass
class Needs:
    """Keys by what they name: `layout.Kind.need` tells which of them files have, `layout.KEYS` how they are written."""

    model: set[str] = field(default_factory=set)
    "name@digest"
    task: set[str] = field(default_factory=set)
    "data set@digest"
    request: set[str] = field(default_factory=set)
    "data set/shard"
    prediction: set[str] = field(default_factory=set)
    "model/data set/shard"
    pair: set[str] = field(default_factory=set)
    "model/data set"
    score: set[str] = field(default_factory=set)
    "model/data set@digest"
    memo: set[str] = field(default_factory=set)
    weights: set[str] = field(default_factory=set)
    report: set[str] = field(default_factory=set)
    run: set[str] = field(default_factory=set)

    def has(self, what: str, key: str) -> bool:
        """Whether a field contains a key."""
        return key in getattr(self, what)


def needs_of(plans: Iterable[Plan]) -> Needs:
    """The combined needs of plans with the same results folder."""
    needs = Needs()
    for plan in plans:
        for record in plan.models:
            needs.model.add(record.full_name)
            if isinstance(record.source, GgufFile):
                needs.weights.add(record.source.identity.folder)
        needs.task |= {record.full_name for record in plan.datasets}
        for pair in plan.pairs:
            _add_pair(needs, plan, pair)
        needs.run.add(plan.published.name)
        needs.report.add(plan.report.name)
        if plan.published.is_symlink():  # the newest finished report, until there is a newer one
            needs.report.add(os.readlink(plan.published))
        needs.memo |= {memo.stem for memo in layout.MEMOS.found(plan.results) if _leads_to(memo, needs)}
    return needs


def _add_pair(needs: Needs, plan: Plan, pair: Pair) -> None:
    model, dataset = pair.model.full_name, pair.dataset.name
    needs.pair.add(f"{model}/{dataset}")
    needs.score.add(f"{model}/{layout.full_name(dataset, pair.dataset.digest)}")
    shards = shards_of(plan, pair)
    if shards is None:  # it has been scored, and its division is lost: any of its predictions may be the right ones
        folder = layout.PREDICTIONS.folder(plan.results, model=model, dataset=dataset)
        shards = {path.name.partition(".")[0] for path in folder.glob("*")}
    needs.prediction |= {f"{model}/{dataset}/{shard}" for shard in shards}
    needs.request |= {f"{dataset}/{shard}" for shard in shards}


def shards_of(plan: Plan, pair: Pair) -> set[str] | None:
    """The names of the shards that a pair is divided into; None if unknown."""
    divisions = Divisions(plan.results, pair.model.full_name, plan.benchmark.run)
    path = layout.SHARDS.file(plan.results, dataset=pair.dataset.name, task=pair.dataset.digest)
    try:
        level = read_sealed_record(path, ShardLists).level(divisions.bits(pair.dataset.name))
        return {shard.name for shard in level}
    except (UserError, KeyError):
        return None


def _leads_to(memo: Path, needs: Needs) -> bool:
    """Whether a memo of planning leads to one of the tasks."""
    record = find_sealed(memo, DatasetRecord)
    return record is not None and record.full_name in needs.task
