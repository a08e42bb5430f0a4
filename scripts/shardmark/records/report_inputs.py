"""The inputs of a report, as the plan lists them for the report step.

results/plans/reports/{run}@{digest}.json; the digest covers all but `timings`, `slurm_jobs`, `facts` and `against`.
"""

from typing import Any

import msgspec

from shardmark.records.base import Record, Sparse, to_json
from shardmark.records.gap import Gap

OF_ONE_RUN = ("timings", "slurm_jobs", "facts", "against")
"Inputs that do not name a report."


class ReportGroup(Record, frozen=True):
    """Data sets that are reported as one; for `mean` and `weights` see the settings of groups."""

    name: str
    members: list[str]
    description: str
    mean: str
    weights: dict[str, float]


class ReportInputs(Sparse, frozen=True):
    """Files are paths from the project's folder."""

    run: str = ""
    scores: list[str] = msgspec.field(default_factory=list)
    samples: list[str] = msgspec.field(default_factory=list)
    timings: list[str] = msgspec.field(default_factory=list)
    slurm_jobs: list[str] = msgspec.field(default_factory=list)
    "What Slurm's accounting says of the jobs of each model that may have some; such a file need not exist."
    descriptions: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    "One line for each of the `models` and `datasets`, by name."
    prices: dict[str, tuple[float, float]] = msgspec.field(default_factory=dict)
    "The price of a million tokens of prompts and of answers, of each model that has one."
    groups: list[ReportGroup] = msgspec.field(default_factory=list)
    mean_weights: dict[str, float] = msgspec.field(default_factory=dict)
    "The weights of data sets and groups in the mean that ranks models; others weigh 1."
    gaps: list[Gap] = msgspec.field(default_factory=list)
    "The results that are missing."
    against: str = ""
    "The run's previous complete report, which had other scores and is compared with this one; empty if none."
    certificates: dict[str, str] = msgspec.field(default_factory=dict)
    "The certificates of the models, each with the SHA-256 of its file."
    facts: dict[str, Any] = msgspec.field(default_factory=dict)
    "How the run was made: `command`, `config` (the run's settings), and any others to be listed."

    @property
    def files(self) -> list[str]:
        """All that the score step makes."""
        return [*self.scores, *self.samples, *self.timings]

    @property
    def identity(self) -> dict[str, Any]:
        """The part that names the report: everything that does not differ from one run of the same to the next."""
        return {key: part for key, part in to_json(self).items() if key not in OF_ONE_RUN}
