"""What a job reads and needs: the functions that the rules give to Snakemake."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from shardmark import layout
from shardmark.config import RunConfig
from shardmark.files import read_json
from shardmark.plan.bundles import SCORE_MB, START_MINUTES, Bundle, Shard
from shardmark.plan.cost import weight_bytes
from shardmark.plan.shard_counts import Divisions
from shardmark.records.base import read_sealed_record
from shardmark.records.model import ModelRecord
from shardmark.records.shard import ShardLists
from shardmark.workflow.slurm import RESOURCES

SHARDS, SUBMITTED = "shards", "submitted"
"What the profiles' group-components call the groups of all jobs; and the group that a job on a cluster itself is."


class OfModel(Protocol):
    """Snakemake's wildcards of a job of a model."""

    @property
    def model(self) -> str: ...


class OfPair(OfModel, Protocol):
    """The same, of a model's job for a data set."""

    @property
    def dataset(self) -> str: ...


class OfShard(OfPair, Protocol):
    """The same, of a job that infers."""

    @property
    def shard(self) -> str: ...


class OfScore(OfPair, Protocol):
    """The same, of a job that scores."""

    @property
    def task(self) -> str: ...


class OfReport(Protocol):
    """The same, of a job that makes a report."""

    @property
    def report(self) -> str: ...


class _Shard(NamedTuple):
    model: str
    dataset: str
    shard: str


class Inputs:
    """Input files and needs of a job, from the wildcards alone: a job on a cluster has no plan, only these files."""

    def __init__(
        self,
        results: str,
        config: dict[str, Any],
        *,
        main: bool = True,
        order: Sequence[str] = (),
        bundles: Iterable[Bundle] = (),
        defaults: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        """`main`: in Snakemake's main process, which alone knows the `order` of the models and, on a cluster, the
        `bundles` of shards that share a job. `defaults` are the profile's default-resources and `overrides` what
        --set-resources gives the rule infer, each a Resource of Snakemake's."""
        self.results = Path(results)
        self.bundled: dict[Shard, Bundle] = {shard: one for one in bundles for shard in one.shards}
        self._main, self._order = main, list(order)
        self._defaults, self._overrides = defaults or {}, overrides or {}
        self._config = config
        self._divisions: dict[str, Divisions] = {}

    def model(self, wildcards: OfModel) -> ModelRecord:
        """The record of the model of a job."""
        return read_sealed_record(layout.MODELS.file(self.results, model=wildcards.model), ModelRecord)

    def priority(self, wildcards: OfModel) -> int:
        """A model's jobs come before those of the next model, so that each is loaded once."""
        return len(self._order) - self._order.index(wildcards.model) if wildcards.model in self._order else 0

    def staging_priority(self, wildcards: OfModel) -> int:
        """Weights come before all inference, and in the order of the models: the second must not start first."""
        return len(self._order) + self.priority(wildcards)

    def bits(self, wildcards: OfPair) -> int:
        """Into how many shards the data set of a score is divided for its model, as a number of bits."""
        if wildcards.model not in self._divisions:
            run = RunConfig.model_validate(self._config)
            self._divisions[wildcards.model] = Divisions(self.results, wildcards.model, run)
        return self._divisions[wildcards.model].bits(wildcards.dataset)

    def missing_staged(self, wildcards: OfModel) -> list[str]:
        """Where a model's weights are, as long as nobody has said so; see completeness.py."""
        path = str(layout.STAGED.file(self.results, model=wildcards.model))
        return [] if os.path.isfile(path) else [path]

    def missing_predictions(self, wildcards: OfScore) -> list[str]:
        """The shards of a data set that are still to be inferred.

        What is there is right, as its path says, and stays out of Snakemake's sight: it would delete and make anew all
        predictions of a model whose weights are staged again. The score command reads and checks every shard itself.
        """
        file = layout.SHARDS.file(self.results, dataset=wildcards.dataset, task=wildcards.task)
        pair = {"model": wildcards.model, "dataset": wildcards.dataset}
        level = read_sealed_record(file, ShardLists).level(self.bits(wildcards))
        paths = [str(layout.PREDICTIONS.file(self.results, **pair, shard=shard.name)) for shard in level]
        return [path for path in paths if not os.path.isfile(path)]

    def report(self, wildcards: OfReport) -> list[str]:
        """The scores, samples and timings of a run that are not there yet."""
        made_of = read_json(layout.REPORT_INPUTS.file(self.results, report=wildcards.report))
        return [path for kind in ("scores", "samples", "timings") for path in made_of[kind] if not os.path.isfile(path)]

    def group_names(self) -> set[str]:
        """All groups that jobs of this process can belong to."""
        return {one.name for one in self.bundled.values()} if self._main else {SUBMITTED}

    def group(self, wildcards: OfShard) -> str | None:
        """The group of a shard's job; None if it is alone. On the cluster, what one job got is one group."""
        if not self._main:
            return SUBMITTED
        mine = self.bundled.get((wildcards.model, wildcards.dataset, wildcards.shard))
        return mine.name if mine and len(mine.shards) > 1 else None

    def score_group(self, wildcards: OfScore) -> str | None:
        """The group that infers all that a score waits for; None if there are several, or none."""
        if not self._main:
            return SUBMITTED
        groups = {
            self.group(_Shard(wildcards.model, wildcards.dataset, Path(path).stem))
            for path in self.missing_predictions(wildcards)
        }
        return groups.pop() if len(groups) == 1 else None

    def minutes(self, wildcards: OfShard, attempt: int, **context: Any) -> int:
        """How long a shard's job may take; of several in a group, whose times add up, the first has nearly all.

        Where the user says how long a job may take, that is the whole job: a partition may allow no minute more.
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
        """How long scoring may take: a job of its own takes longer to start."""
        least = self._least("runtime", wildcards, attempt, context)
        if self.score_group(wildcards):
            own = self.model(wildcards).settings.slurm.runtime
            return 0 if own or least else attempt * 2
        return max(attempt * START_MINUTES, least)

    def score_memory_mb(self, wildcards: OfScore, attempt: int, **context: Any) -> int:
        """Main memory for scoring; in a job that infers, what that asks for."""
        if self.score_group(wildcards):
            return self.memory_mb(wildcards, attempt, **context)
        return attempt * max(SCORE_MB, self._least("mem_mb", wildcards, attempt, context))

    def slurm(self, key: str) -> Callable[[Any], Any]:
        """What a model's file says of its jobs on Slurm, or else the profile's default-resources."""

        def asked(wildcards: Any, **context: Any) -> Any:
            own = getattr(self.model(wildcards).settings.slurm, RESOURCES[key])
            return own or self._default(key, wildcards, context)

        return asked

    def score_slurm(self, key: str) -> Callable[[Any], Any]:
        """What scoring asks of Slurm: in a job that infers, what that asks for, as a job has only one partition.

        Alone, the profile's default-resources: the model's own may name nodes with GPUs that scoring has no use for.
        """
        inferring = self.slurm(key)

        def asked(wildcards: Any, **context: Any) -> Any:
            if not self.score_group(wildcards):
                return self._default(key, wildcards, context)
            given = self._overrides.get(key)
            return given.evaluate(wildcards, **context).value if given else inferring(wildcards, **context)

        return asked

    def _default(self, key: str, wildcards: OfModel, context: dict[str, Any]) -> Any:
        default = self._defaults.get(key)  # an expression, which may need the context: attempt, threads, ...
        return default.evaluate(wildcards, **context).value if default else None

    def _least(self, key: str, wildcards: OfModel, attempt: int, context: dict[str, Any]) -> int:
        """What a job asks for at least: a number of the profile's default-resources; 0 without one."""
        found = self._default(key, wildcards, {"attempt": attempt, **context})
        return found if isinstance(found, int) else 0

    def memory_mb(self, wildcards: OfModel, attempt: int, **context: Any) -> int:
        """Main memory for a job of a model: twice its weights and room for the libraries; more with each attempt."""
        record = self.model(wildcards)
        if own := record.settings.slurm.mem_mb:
            return attempt * own
        needed = 4000 + 2 * weight_bytes(record) // 1_000_000
        return attempt * max(needed, self._least("mem_mb", wildcards, attempt, context))
