"""Remaining work for a model on a data set; answers that exist already are put in their place."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from msgspec.structs import asdict

from shardmark import layout
from shardmark.config import RunConfig
from shardmark.config.backends.openai import OpenaiConfig
from shardmark.errors import Problem, UserError
from shardmark.plan.cost import Costs, Seconds, Share
from shardmark.plan.datasets import PlannedDataset
from shardmark.plan.endpoints import Bill, bill_of
from shardmark.plan.outdated_answers import OutdatedAnswers
from shardmark.plan.reuse import WHOLE, Answered, Warn, ids_in_partials, take_over
from shardmark.plan.shard_counts import Divisions
from shardmark.plan.shared_answers import SharedAnswers, Wanted
from shardmark.records.dataset import DatasetRecord
from shardmark.records.model import ModelRecord
from shardmark.records.shard import ShardRecord
from shardmark.store.hashes import CheckedFiles
from shardmark.store.partials import partial_files
from shardmark.store.predictions import check_predictions
from shardmark.store.requests import ids_in

OLD = "an earlier version gave some of these answers without this model's end of text, date, thoughts or system message"
NOTHING = Seconds(0.0, 0.0)


class MissingShard(ShardRecord, kw_only=True):
    """A shard to run."""

    left: int
    "The number of its requests without an answer."


@dataclass(frozen=True)
class Pair:
    """A model on a data set."""

    model: ModelRecord
    dataset: DatasetRecord
    shards: int
    missing: list[MissingShard]
    "The shards to run."
    scored: bool
    seconds: Seconds = NOTHING
    "Expected seconds of the missing shards, summed, and of one load of the model."
    longest: float = 0.0
    "Expected seconds of the longest missing shard; on a cluster, of the longest job with one of them."
    costs: Sequence[Seconds] = ()
    "Expected seconds of each missing shard."
    jobs: float | None = None
    "On a cluster, the number of jobs of the missing shards, with fractions if pairs share jobs; None: each is one."
    measured: bool = False
    "Whether `seconds` comes from measured jobs of this model, and not from a prior."
    bill: Bill | None = None
    "What the missing shards take from an endpoint."

    @property
    def requests(self) -> int:
        """Requests to infer."""
        return sum(shard.left for shard in self.missing)


def score_files(results: Path, model: ModelRecord, dataset: DatasetRecord) -> tuple[str, ...]:
    """The scores, samples and timings of a model on a data set."""
    fields = {"model": model.full_name, "dataset": dataset.name, "task": dataset.digest}
    return tuple(str(kind.file(results, **fields)) for kind in layout.SCORED)


class ModelPairs:
    """One model's part of a plan."""

    def __init__(
        self,
        model: ModelRecord,
        run: RunConfig,
        costs: Costs,
        checked: CheckedFiles,
        warn: Warn,
        shared: SharedAnswers | None = None,
    ) -> None:
        self.model, self.run, self.costs, self.checked, self.warn = model, run, costs, checked, warn
        self.shared = shared
        self.results = Path(run.results)
        self.divisions = Divisions(self.results, model.full_name, run)

    @cached_property
    def _answered(self) -> Answered:
        return Answered(self.results, self.model)

    @cached_property
    def _outdated(self) -> OutdatedAnswers:
        return OutdatedAnswers(self.model, self.results)

    @cached_property
    def _scored(self) -> set[str]:
        """The names of scored results: those of files that are in all of the folders."""
        folders = (kind.folder(self.results, model=self.model.full_name) for kind in layout.SCORED)
        names = [{name.rpartition(".")[0] for name in _names(folder)} for folder in folders]
        return set.intersection(*names)

    def pair(self, dataset: PlannedDataset) -> Pair:
        """The remaining work for a data set. A pair with scores needs no predictions."""
        record = dataset.record
        folder = layout.PREDICTIONS.folder(self.results, model=self.model.full_name, dataset=record.name)
        self.costs.measure(self.model, record.name, record.kind)
        scored = record.full_name in self._scored
        bits = self.divisions.decide(self.model, record, self.costs, self.run, has_answers=folder.is_dir())
        if scored:
            return Pair(self.model, record, dataset.shards(bits), [], scored)
        level = dataset.level(bits)
        names = {shard.name for shard in level}
        missing = self._missing(folder, names)
        if not missing:
            return Pair(self.model, record, len(level), [], scored)
        requests = {name: layout.REQUESTS.file(self.results, dataset=record.name, shard=name) for name in missing}
        relatives = dataset.relatives(self._answered.datasets() - {record.name})
        for path in (path for name in missing for path in partial_files(folder / f"{name}{WHOLE}")):
            if self._outdated.spoils(path):
                self.warn(_put_aside(self.results, path, Problem(str(path), "", OLD, "")))
        found = self._answered.sources(record.name, missing, names, relatives)
        sources = [path for path in found if not self._outdated.spoils(path)]
        if self.shared:
            here = self._answers(folder, requests, sources)
            sources += self.shared.take(self.model, Wanted(record.name, requests, names, here, dataset.relatives))
            requests = {name: path for name, path in requests.items() if not (folder / f"{name}{WHOLE}").is_file()}
        known = take_over(folder, requests, sources, self.warn)
        shards = [
            MissingShard(**asdict(shard), left=shard.requests - known[shard.name])
            for shard in level
            if shard.name in known and not (folder / f"{shard.name}{WHOLE}").is_file()
        ]
        return self._priced(Pair(self.model, record, len(level), shards, scored))

    @staticmethod
    def _answers(folder: Path, requests: dict[str, Path], sources: Iterable[Path]) -> set[str]:
        """The ids of requests that have an answer anywhere in this results folder."""
        partial = (ids_in_partials(folder / f"{name}{WHOLE}") for name in requests)
        return {key for keys in (*partial, *_ids(sources)) for key in keys}

    def _missing(self, folder: Path, names: set[str]) -> set[str]:
        """The shards without a complete file. Damaged files are moved away, so that their shards are inferred again."""
        missing = set()
        there = self._answered.names(folder.name)
        for name in names:
            path = folder / f"{name}{WHOLE}"
            if path.name not in there:
                missing.add(name)
                continue
            try:
                self.checked.check(path, check_predictions)
                if self._outdated.spoils(path):
                    raise UserError(Problem(str(path), "", OLD, ""))
            except FileNotFoundError:  # a dangling link, or another run has just moved it
                missing.add(name)
            except UserError as error:
                missing.add(name)
                self.warn(_put_aside(self.results, path, error.problems[0]))
        return missing

    def _priced(self, pair: Pair) -> Pair:
        """The pair with the expected seconds of its missing shards."""
        model, dataset = self.model, pair.dataset
        costs = [
            self.costs.predict(model, dataset.name, dataset.kind, _share(shard), shard.left) for shard in pair.missing
        ]
        inference = sum(cost.inference for cost in costs)
        load = max((cost.load for cost, shard in zip(costs, pair.missing, strict=True) if shard.left), default=0.0)
        longest = max((cost.total for cost in costs), default=0.0)
        measured = self.costs.measured(model, dataset.name, dataset.kind)
        seconds, bill = Seconds(inference, load), self._bill(pair)
        return replace(pair, seconds=seconds, longest=longest, costs=costs, measured=measured, bill=bill)

    def _bill(self, pair: Pair) -> Bill | None:
        if not isinstance(self.model.settings, OpenaiConfig):
            return None
        requests = ((s.name, s.left / s.requests) for s in pair.missing)  # a partial file may have some of the answers
        files = ((layout.REQUESTS.file(self.results, dataset=pair.dataset.name, shard=name), n) for name, n in requests)
        return bill_of(self.model.settings, files)


def _share(shard: MissingShard) -> Share:
    """The work for a shard's remaining requests."""
    share = shard.left / shard.requests
    return Share(shard.read * share, shard.written * share, shard.longest if share else 0)


def _ids(files: Iterable[Path]) -> Iterator[list[str]]:
    """The ids in each of some files, any of which may be gone."""
    for path in files:
        with suppress(FileNotFoundError):
            yield ids_in(path)


def _names(folder: Path) -> Iterable[str]:
    return os.listdir(folder) if folder.is_dir() else ()


def _put_aside(results: Path, path: Path, problem: Problem) -> Problem:
    """Move a damaged file out of the way, to its name in results/damaged."""
    target = layout.DAMAGED.file(results, file=str(path.relative_to(results / "predictions")))
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, target)
    return replace(problem, fix=f"none needed: it has been moved to {target}, and its requests are inferred again")
