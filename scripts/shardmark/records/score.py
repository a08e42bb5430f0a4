"""The score file: what a model reached on a data set, and what it was made from.

results/scores/{model}@{digest}/{dataset}@{digest}.json, sealed with a checksum of itself.
"""

import math
from typing import Any, Literal

import msgspec

from shardmark.records.base import Record
from shardmark.records.extent import ExtentRecord
from shardmark.records.timings import Timings

SCORE_PROTOCOL = 1
"The version of score files, as their key `protocol` has it."

Kind = Literal["generate", "choice", "loglikelihood", "rolling", "mixed", "group"]
"What a data set asks for. Only in reports, data sets may be groups of others."


def finite(value: float | None) -> float | None:
    """The number, or None if it is none, or infinite."""
    return value if value is not None and math.isfinite(value) else None


class Metric(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An estimate: value, standard error and 95% interval over n samples; fractions have percent set.

    JSON has no infinity, which a perplexity may be: a number that is not finite is unknown, None.
    """

    value: float | None
    stderr: float | None
    ci95: tuple[float | None, float | None] | None
    n: int
    interval: str | None = None
    "How the interval was made: wilson, t, bootstrap or combined."
    clusters: int | None = None
    "How many clusters the samples come in, where the error bar counts them."
    higher_is_better: bool = msgspec.field(default_factory=lambda: True)
    percent: bool = msgspec.field(default_factory=bool)

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "value", finite(self.value))
        msgspec.structs.force_setattr(self, "stderr", finite(self.stderr))
        if self.ci95 is not None:
            msgspec.structs.force_setattr(self, "ci95", (finite(self.ci95[0]), finite(self.ci95[1])))


class ModelInfo(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model as it was run."""

    name: str
    digest: str
    dtype: str | None
    description: str
    source: str
    revision: str | None
    num_gpus: int

    @classmethod
    def unscored(cls, name: str, digest: str) -> "ModelInfo":
        """A model that a report knows by name only."""
        return cls(name=name, digest=digest, dtype=None, description="", source="", revision=None, num_gpus=0)


class DatasetInfo(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A data set as it was asked; chance is the expected primary metric of blind guessing."""

    name: str
    digest: str
    description: str
    kind: Kind
    source: str
    revision: str | None
    chance: float | None
    remarks: list[str] = msgspec.field(default_factory=list)
    "What a reader must know of its samples, such as prompts that contain their own answer."
    limit: ExtentRecord | str = ""
    """What part of it was asked: in score files as a record, in reports in words, such as "first 40 of 14,042 rows".
    Empty for all of it."""
    is_chat: bool = False
    "Whether it was asked in chats. Scores from before there was a choice do not say it."

    @property
    def part(self) -> str:
        """The limit in words; a report's data sets have it so."""
        return str(self.limit)

    @classmethod
    def unscored(cls, name: str, digest: str, description: str = "", kind: Kind = "generate") -> "DatasetInfo":
        """A data set that a report knows by name only."""
        return cls(name=name, digest=digest, description=description, kind=kind, source="", revision=None, chance=None)


class Reasoning(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How much was thought before the answers."""

    answers: int
    reasoned: int
    "How many of the answers have a thought."
    cut: int
    "How many end within one, and so have no answer."
    thought_tokens: int | None
    "Of all answers together; None where earlier versions did not count them."
    answer_tokens: int | None
    "Those that are no thoughts."
    seen: bool = False
    "Whether some filters saw thoughts as a part of answers."

    @property
    def share_cut(self) -> float:
        """The fraction of answers that end within a thought."""
        return self.cut / self.answers

    @property
    def mean_thought(self) -> float | None:
        """Tokens of thoughts for an answer."""
        return None if self.thought_tokens is None else self.thought_tokens / self.answers

    @property
    def mean_answer(self) -> float | None:
        """Tokens of an answer without thoughts."""
        return None if self.answer_tokens is None else self.answer_tokens / self.answers


class Counts(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How many samples and requests there were, prompts cut to fit, and answers that were not found."""

    samples: int
    requests: int
    truncated: int
    unanswered: int
    near_misses: int = msgspec.field(default_factory=int)
    "Answers that count as wrong only because of their white space or case. Version 0.1 did not count them."
    tied: int = 0
    "Samples whose best choice is exactly as good as another."
    alone: int = 0
    "Samples with a choice that was tokenized without its prompt, because a token of the model's spans both."

    reasoning: Reasoning | None = None
    "None where nothing was thought."
    within_thoughts: int = 0
    "Samples whose choices were scored within a thought that the prompt has opened."
    late: int = 0
    "Answers that the model's request_seconds ended."

    def remarks(self) -> list[str]:
        """What must be said wherever the score stands."""
        tied = f"{self.tied:,} of {self.samples:,} samples with tied choices" if self.tied else ""
        alone = f"{self.alone:,} of {self.samples:,} samples with choices tokenized alone" if self.alone else ""
        how = self.reasoning
        cut = f"reasoning of {how.cut:,} of {how.answers:,} answers cut" if how and how.cut else ""
        late = f"answers ended by the clock, which another run may not repeat: {self.late:,}" if self.late else ""
        within = self.within_thoughts
        inside = f"{within:,} of {self.samples:,} samples with choices scored within a thought" if within else ""
        seen = f"thoughts read as a part of {how.reasoned:,} of {how.answers:,} answers" if how and how.seen else ""
        return [text for text in (tied, alone, inside, cut, seen, late) if text]


class Provenance(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is needed to repeat the score."""

    shardmark: str
    git_commit: str | None
    python: str
    packages: dict[str, str]
    hardware: dict[str, Any]
    config: dict[str, Any]
    "The settings of the `model` and the `dataset`, the `weights`, and the `adapter` if there is one."
    rows: dict[str, Any]
    "Where the data set's rows are from."
    components: dict[str, str] = msgspec.field(default_factory=dict)
    "The digest of each part of the data set, so that it can be said what differs between two scores."
    inference: Timings | None = None
    "In files of version 0.1; now a file of its own."
    shards: Any = None
    "In files of version 0.1; now in the timings."


class Scores(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One score file: a model on a data set."""

    protocol: int
    model: ModelInfo
    dataset: DatasetInfo
    primary: str
    metrics: dict[str, Metric]
    counts: Counts
    provenance: Provenance

    def __post_init__(self) -> None:
        if self.primary not in self.metrics:
            raise ValueError(f"the primary metric {self.primary!r} is not among {list(self.metrics)}")

    @property
    def main(self) -> Metric:
        """The primary metric's estimate."""
        return self.metrics[self.primary]
