"""Jobs on a cluster: the shards that share a job, and its time limit.

A job has a model to load and a queue to wait in, so it does several shards of one model, one after another. They are
taken in the order of the plan until they are expected to take `max_job_cost` seconds. The shards of a data set stay in
one job if they fit, because that job can then score it as well.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import groupby

from shardmark.config import RunConfig
from shardmark.plan.cost import Seconds
from shardmark.plan.pairs import Pair
from shardmark.records.model import ModelRecord

MOST_SHARDS = 100
"The most shards in a job: each is named on a command line, whose length is limited."
START_MINUTES = 10
"Minutes allowed to a job besides its shards, for a busy file system for instance."
SCORE_MB = 4000
"Main memory of a job that only scores, in MB."
SLACK = {True: 3, False: 10}
"Factor on a job's expected time for its limit, by whether the expectation rests on measurements."
LONGEST_MINUTES = 24 * 60
"The time limit of a job if its model's file sets none."

SHOWN = 60
"The most characters of the names of a job's data sets."

Shard = tuple[str, str, str]
"The model's name@digest, the data set's name and the shard's name."


@dataclass
class Bundle:
    """Shards of one model that make up one job."""

    model: ModelRecord
    number: int
    shards: list[Shard] = field(default_factory=list)
    seconds: float = 0.0
    "Expected seconds of inference."
    allowed: float = 0.0
    "Seconds allowed."

    @property
    def name(self) -> str:
        """Snakemake's name of the group, which is also part of the job's comment in Slurm's queue."""
        datasets = "+".join(dict.fromkeys(dataset for _, dataset, _ in self.shards))
        shown = datasets if len(datasets) <= SHOWN else f"{datasets[:SHOWN]}..."
        return f"{self.model.full_name}-{self.number}_{shown}"

    def minutes(self, attempt: int) -> int:
        """The time limit of the job in minutes."""
        own = self.model.settings.slurm.runtime
        if own:
            return own * attempt
        minutes = START_MINUTES + math.ceil(self.allowed / 60)
        return min(minutes * attempt, LONGEST_MINUTES)


def job_seconds(run: RunConfig) -> float:
    """The approximate number of seconds of shards that a job does at most."""
    return run.max_shard_cost if run.max_job_cost is None else run.max_job_cost


def bundle(pairs: Iterable[Pair], most_seconds: float) -> list[Bundle]:
    """The missing shards of all pairs, which are sorted by model, in jobs of at most about `most_seconds`.

    Endpoints have no jobs on a cluster.
    """
    made: list[Bundle] = []
    on_cluster = (pair for pair in pairs if not pair.model.settings.elsewhere)
    for _, of_model in groupby(on_cluster, key=lambda pair: pair.model.full_name):
        here: Bundle | None = None
        for pair in of_model:
            whole = pair.seconds.inference <= most_seconds and len(pair.missing) <= MOST_SHARDS
            if here is None or (whole and not _fits(here, pair.seconds.inference, len(pair.missing), most_seconds)):
                made.append(here := Bundle(pair.model, len(made)))
            for shard, cost in zip(pair.missing, pair.costs, strict=True):
                if not _fits(here, cost.inference, 1, most_seconds):
                    made.append(here := Bundle(pair.model, len(made)))
                _add(here, pair, shard.name, cost)
    return [one for one in made if one.shards]


def in_jobs(pairs: list[Pair], jobs: Iterable[Bundle]) -> list[Pair]:
    """The pairs, with the jobs that `bundle` made of their shards."""
    job_of = {shard: job for job in jobs for shard in job.shards}
    return [_in_jobs(pair, job_of) for pair in pairs]


def _in_jobs(pair: Pair, job_of: dict[Shard, Bundle]) -> Pair:
    """A pair with its share of each job. Jobs load their model by themselves; endpoints have no jobs on the cluster."""
    if pair.model.settings.elsewhere:
        return pair
    jobs = [job_of[pair.model.full_name, pair.dataset.name, shard.name] for shard in pair.missing]
    longest = max((job.seconds + pair.seconds.load for job in jobs), default=0.0)
    return replace(pair, longest=longest, jobs=sum(1 / len(job.shards) for job in jobs))


def _fits(here: Bundle, seconds: float, shards: int, most_seconds: float) -> bool:
    return not here.shards or (here.seconds + seconds <= most_seconds and len(here.shards) + shards <= MOST_SHARDS)


def _add(here: Bundle, pair: Pair, shard: str, cost: Seconds) -> None:
    if not here.shards:
        here.allowed += SLACK[pair.measured] * cost.load
    here.shards.append((pair.model.full_name, pair.dataset.name, shard))
    here.seconds += cost.inference
    here.allowed += SLACK[pair.measured] * cost.inference
