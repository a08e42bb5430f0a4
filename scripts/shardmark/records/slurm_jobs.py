"""What Slurm's accounting says of a model's jobs (results/slurm/{model}.json)."""

import msgspec

from shardmark.records.base import Record


class SlurmJob(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job that has ended; memory is in MB."""

    infers: bool
    "Whether it infers, or only scores."
    state: str
    seconds: int
    "The time that it ran."
    cpus: int
    "The CPUs that it had."
    cpu_seconds: float
    "The CPU time that it used."
    memory: float | None
    "The most main memory that one of its steps used; None if the cluster does not measure it."
    memory_asked: float


class SlurmJobs(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The jobs of a model by their ids, in the order in which they ended."""

    jobs: dict[str, SlurmJob] = msgspec.field(default_factory=dict)
