"""Inputs and resources of jobs: the functions that the rules give to Snakemake."""

import functools
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from shardmark import layout
from shardmark.config import RunConfig
from shardmark.plan.bundles import SCORE_MB, START_MINUTES, Bundle, Shard
from shardmark.plan.cost import weight_bytes
from shardmark.plan.shard_counts import Divisions
from shardmark.records.base import Record, read_sealed_record
from shardmark.records.model import ModelRecord
from shardmark.records.report_inputs import ReportInputs
from shardmark.records.shard import ShardLists
from shardmark.workflow import patches
from shardmark.workflow.slurm import RESOURCES

R = TypeVar("R", bound=Record)
SHARDS, SUBMITTED = "shards", "submitted"
"The profiles' name for the groups of all jobs (in group-components); and the group that a cluster job itself is."


class OfModel(Protocol):
    """Snakemake's wildcards for a job of a model."""

    @property
    def model(self) -> str: ...


class OfPair(OfModel, Protocol):
    """The same for a model's job on a data set."""

    @property
    def dataset(self) -> str: ...


class OfShard(OfPair, Protocol):
    """The same for a job that infers."""

    @property
    def shard(self) -> str: ...


class OfScore(OfPair, Protocol):
    """The same for a job that scores."""

    @property
    def task(self) -> str: ...


class OfReport(Protocol):
    """The same for a job that makes a report."""

    @property
    def report(self) -> str: ...


class _Shard(NamedTuple):
    model: str
    dataset: str
    shard: str


class Inputs:
    """Input files and resources of a job, from its wildcards only: a cluster job has no plan, only these files."""

    def __init__(
        self,
        results: str,
        config: dict[str, Any],
        *,
        main: bool = True,
        order: Sequence[str] = (),
        later: Collection[tuple[str, str]] = (),
        bundles: Iterable[Bundle] = (),
        defaults: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        """`main` says that this is Snakemake's main process. Only there are `order`, `later` and `bundles` known.

        `order` are the models' names in order; `later` are the pairs of model and data set that come later, because
        another engine of the model answers them; `bundles` are, on a cluster, the shards that share a job. `defaults`
        are the profile's default-resources and `overrides` the values of --set-resources for the rule infer, each a
        Resource of Snakemake's.
        """
        self.results = Path(results)
        self.bundled: dict[Shard, Bundle] = {shard: one for one in bundles for shard in one.shards}
        self._main, self._order, self._later = main, list(order), set(later)
        self._defaults, self._overrides = defaults or {}, overrides or {}
        self._config = config
        self._divisions: dict[str, Divisions] = {}
        self._records: dict[Path, Any] = {}

    def model(self, wildcards: OfModel) -> ModelRecord:
        """The record of the model of a job."""
        return self._read(layout.MODELS.file(self.results, model=wildcards.model), ModelRecord)

    def _read(self, file: Path, kind: type[R]) -> R:
        """A record from a file, which is read only once: Snakemake asks several times for each job."""
        if file not in self._records:
            self._records[file] = read_sealed_record(file, kind)
        return cast("R", self._records[file])

    def priority(self, wildcards: OfModel) -> int:
        """The priority of a model's job. It comes before those of the next model, so that each engine loads once."""
        if wildcards.model not in self._order:
            return 0
        late = (wildcards.model, getattr(wildcards, "dataset", "")) in self._later
        return 2 * (len(self._order) - self._order.index(wildcards.model)) - late

    def staging_priority(self, wildcards: OfModel) -> int:
        """The priority of staging: before all inference, in the order of the models, so that none starts early."""
        return 2 * len(self._order) + self.priority(wildcards)

    def bits(self, wildcards: OfPair) -> int:
        """The division of a score's data set for its model, as a number of bits."""
        if wildcards.model not in self._divisions:
            run = RunConfig.model_validate(self._config)
            self._divisions[wildcards.model] = Divisions(self.results, wildcards.model, run)
        return self._divisions[wildcards.model].bits(wildcards.dataset)

    def missing_staged(self, wildcards: OfModel) -> list[str]:
        """The record of a model's staged files, as long as it does not exist; see completeness.py."""
        path = str(layout.STAGED.file(self.results, model=wildcards.model))
        return [] if os.path.isfile(path) else [path]

    def missing_predictions(self, wildcards: OfScore) -> list[str]:
        """The shards of a data set that are still to be inferred.

        Existing ones are right, because their paths say so, and are hidden from Snakemake: it would delete and make
        again all predictions of a model whose weights are staged again. The score command reads and checks every shard
        itself.
        """
        file = layout.SHARDS.file(self.results, dataset=wildcards.dataset, task=wildcards.task)
        pair = {"model": wildcards.model, "dataset": wildcards.dataset}
        level = self._read(file, ShardLists).level(self.bits(wildcards))
        paths = [str(layout.PREDICTIONS.file(self.results, **pair, shard=shard.name)) for shard in level]
        return [path for path in paths if not os.path.isfile(path)]

    def report(self, wildcards: OfReport) -> list[str]:
        """The scores, samples and timings of a run that do not exist yet."""
        inputs = self._read(layout.REPORT_INPUTS.file(self.results, report=wildcards.report), ReportInputs)
        return [path for path in inputs.files if not os.path.isfile(path)]

    def group_names(self) -> set[str]:
        """All groups that jobs of this process can belong to."""
        return {one.name for one in self.bundled.values()} if self._main else {SUBMITTED}

    def group(self, wildcards: OfShard) -> str | None:
        """The group of a shard's job; None if it is alone. On the cluster, all work of one job is one group."""
        if not self._main:
            return SUBMITTED
        mine = self.bundled.get((wildcards.model, wildcards.dataset, wildcards.shard))
        return mine.name if mine and len(mine.shards) > 1 else None

    def score_group(self, wildcards: OfScore) -> str | None:
        """The group that infers all shards that a score waits for; None if there are several, or none."""
        if not self._main:
            return SUBMITTED
        if not self.bundled:
            return None  # without a look at every shard, several times for each score
        groups = {
            self.group(_Shard(wildcards.model, wildcards.dataset, Path(path).stem))
            for path in self.missing_predictions(wildcards)
        }
        return groups.pop() if len(groups) == 1 else None

    def minutes(self, wildcards: OfShard, attempt: int, **context: Any) -> int:
        """The time limit of a shard's job; in a group, where limits add up, the first shard has nearly all of it.

        A time limit set by the user applies to the whole job: a partition may not allow a minute more.
        """
        shard = (wildcards.model, wildcards.dataset, wildcards.shard)
        mine = self.bundled.get(shard)
        if mine is None:
            return START_MINUTES
        own = mine.model.settings.slurm.runtime
        least = 0 if own else self._least("runtime", wildcards, attempt, context)
        if mine.shards[0] != shard:
            return 0 if own or least else 1
        return max(mine.minutes(attempt), least)

    def score_minutes(self, wildcards: OfScore, attempt: int, **context: Any) -> int:
        """The time limit of scoring: a separate job takes longer to start."""
        least = self._least("runtime", wildcards, attempt, context)
        if self.score_group(wildcards):
            own = self.model(wildcards).settings.slurm.runtime
            return 0 if own or least else attempt * 2
        return max(attempt * START_MINUTES, least)

    def score_memory_mb(self, wildcards: OfScore, attempt: int, **context: Any) -> int:
        """Main memory for scoring; within a job that infers, that job's memory."""
        if self.score_group(wildcards):
            return self.memory_mb(wildcards, attempt, **context)
        return attempt * max(SCORE_MB, self._least("mem_mb", wildcards, attempt, context))

    def slurm(self, key: str) -> Callable[[Any], Any]:
        """A function for a model's Slurm setting: from its file, else from the profile's default-resources."""

        def asked(wildcards: Any, **context: Any) -> Any:
            own = getattr(self.model(wildcards).settings.slurm, RESOURCES[key])
            return own or self._default(key, wildcards, context)

        return asked

    def score_slurm(self, key: str) -> Callable[[Any], Any]:
        """A function for a Slurm setting of scoring: that of the job that infers, if scoring is part of one.

        A separate scoring job has the model's account, and otherwise the profile's default-resources: the model's own
        may name nodes with GPUs, which scoring does not need.
        """
        inferring = self.slurm(key)

        def asked(wildcards: Any, **context: Any) -> Any:
            if not self.score_group(wildcards):
                if key == "slurm_account":
                    return inferring(wildcards, **context)
                return self._default(key, wildcards, context)
            given = self._overrides.get(key)
            return given.evaluate(wildcards, **context).value if given else inferring(wildcards, **context)

        return asked

    def _default(self, key: str, wildcards: OfModel, context: dict[str, Any]) -> Any:
        default = self._defaults.get(key)  # an expression that may need the context: attempt, threads, ...
        return default.evaluate(wildcards, **context).value if default else None

    def _least(self, key: str, wildcards: OfModel, attempt: int, context: dict[str, Any]) -> int:
        """The least amount that a job asks for: a number of the profile's default-resources; 0 without one."""
        found = self._default(key, wildcards, {"attempt": attempt, **context})
        return found if isinstance(found, int) else 0

    def memory_mb(self, wildcards: OfModel, attempt: int, **context: Any) -> int:
        """Main memory for a job of a model: twice its weights and room for libraries; more with each attempt."""
        record = self.model(wildcards)
        if own := record.settings.slurm.mem_mb:
            return attempt * own
        needed = 4000 + 2 * weight_bytes(record) // 1_000_000
        return attempt * max(needed, self._least("mem_mb", wildcards, attempt, context))


def inspect_once(*modules: ModuleType) -> None:
    """Have Snakemake's modules inspect a rule's function once, and not some forty times for each job."""

    def once(inspect: Callable[..., Any]) -> Callable[..., Any]:
        known = functools.cache(inspect)

        def parameters(func: Callable[..., Any]) -> Any:
            try:
                return known(func)
            except TypeError:  # a user's object that cannot be hashed
                return inspect(func)

        return parameters

    for module in modules:
        patches.replace(module, patches.PARAMETERS, once)
