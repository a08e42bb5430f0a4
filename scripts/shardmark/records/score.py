"""The score file: a model's metrics on a data set, and the inputs they were made from.

results/scores/{model}@{digest}/{dataset}@{digest}.json, sealed with its own checksum.
"""

import math
from typing import Any, Literal

import msgspec

from shardmark.records.base import Record
from shardmark.records.engine import EngineUse
from shardmark.records.extent import ExtentRecord
from shardmark.records.shared import Taken
from shardmark.records.timings import Timings

SCORE_PROTOCOL = 1
"The version of score files, as in their key `protocol`."

Kind = Literal["generate", "choice", "loglikelihood", "rolling", "mixed", "group"]
"The kind of a data set's requests. Only in reports can a data set be a group of others."


def finite(value: float | None) -> float | None:
    """The number, or None if it is None, infinite or NaN."""
    return value if value is not None and math.isfinite(value) else None


class Metric(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An estimate: value, standard error and 95% interval over n samples; `percent` is set for fractions.

    JSON has no infinity, which a perplexity may be: a number that is not finite is unknown, None.
    """

    value: float | None
    stderr: float | None
    ci95: tuple[float | None, float | None] | None
    n: int
    interval: str | None = None
    "How the interval was computed: wilson, t, bootstrap or combined."
    clusters: int | None = None
    "How many clusters the samples come in, if the error bar accounts for them."
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
        """A model of which a report knows only the name and digest."""
        return cls(name=name, digest=digest, dtype=None, description="", source="", revision=None, num_gpus=0)


class DatasetInfo(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A data set as it was asked; `chance` is the expected primary metric of blind guessing."""

    name: str
    digest: str
    description: str
    kind: Kind
    source: str
    revision: str | None
    chance: float | None
    remarks: list[str] = msgspec.field(default_factory=list)
    "Remarks that a reader must know, such as prompts that contain their own answer."
    limit: ExtentRecord | str = ""
    """The part of it that was asked: in score files a record, in reports words, such as "first 40 of 14,042 rows".
    Empty for all of it."""
    is_chat: bool = False
    "Whether it was asked as chats. Scores from before there was a choice do not say."

    @property
    def part(self) -> str:
        """The limit in words, as a report's data sets have it."""
        return str(self.limit)

    @classmethod
    def unscored(cls, name: str, digest: str, description: str = "", kind: Kind = "generate") -> "DatasetInfo":
        """A data set of which a report knows only names."""
        return cls(name=name, digest=digest, description=description, kind=kind, source="", revision=None, chance=None)


class Reasoning(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How much thinking preceded the answers."""

    answers: int
    reasoned: int
    "How many of the answers have a thought."
    cut: int
    "How many answers end within a thought, and so are missing."
    thought_tokens: int | None
    "Tokens of thoughts in all answers; None where earlier versions did not count them."
    answer_tokens: int | None
    "Tokens in all answers that are not thoughts."
    seen: bool = False
    "Whether some filters saw thoughts as a part of answers."

    @property
    def share_cut(self) -> float:
        """The fraction of answers that end within a thought."""
        return self.cut / self.answers

    @property
    def mean_thought(self) -> float | None:
        """Mean tokens of thoughts per answer."""
        return None if self.thought_tokens is None else self.thought_tokens / self.answers

    @property
    def mean_answer(self) -> float | None:
        """Mean tokens per answer without thoughts."""
        return None if self.answer_tokens is None else self.answer_tokens / self.answers


class SoFar(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a data set's samples that a score covers while the rest is unanswered."""

    shards: int
    "How many shards, the first in the order of their hashes,"
    of_shards: int
    "of how many."
    samples: int
    "How many samples these shards have,"
    of: int
    "of how many."

    def __str__(self) -> str:
        shards = f"first {self.shards:,} of {self.of_shards:,} shards"
        return f"so far {self.samples:,} of {self.of:,} samples ({shards})"


class Counts(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Numbers of samples, requests, prompts cut to fit, and answers that were not found."""

    samples: int
    requests: int
    truncated: int
    unanswered: int
    near_misses: int = msgspec.field(default_factory=int)
    "Answers that are wrong only because of white space or case. Version 0.1 did not count them."
    tied: int = 0
    "Samples whose best choice is exactly as good as another."
    alone: int = 0
    "Samples with a choice that was tokenized without its prompt because a token of the model spans both."

    reasoning: Reasoning | None = None
    "None if there were no thoughts."
    within_thoughts: int = 0
    "Samples whose choices were scored within a thought that the prompt has opened."
    late: int = 0
    "Answers that the model's request_seconds ended."
    refused: int = 0
    "Answers that a model behind an endpoint refused to give, or that the endpoint withheld."
    cut_there: int = 0
    "Prompts that an endpoint seems to have cut, by its own count of their tokens."
    models: int = 0
    "How many models answered, by the names that an endpoint gave."
    empty: int = 0
    "Answers of an endpoint that ended by themselves with nothing in them."
    same_samples: int = 0
    "Requests with several drawn samples that are all the same long text."
    repeated: int = 0
    "Greedy requests that the engine was asked again, each in a batch of its own."
    differing: int = 0
    "How many of these then got other tokens."
    so_far: SoFar | None = None
    "Only in interim reports: the part of the samples that has been answered."

    def remarks(self) -> list[str]:
        """Remarks that must accompany the score everywhere."""
        tied = f"{self.tied:,} of {self.samples:,} samples with tied choices" if self.tied else ""
        alone = f"{self.alone:,} of {self.samples:,} samples with choices tokenized alone" if self.alone else ""
        how = self.reasoning
        cut = f"reasoning of {how.cut:,} of {how.answers:,} answers cut" if how and how.cut else ""
        late = (
            f"answers ended by the time limit, which another run may not reproduce: {self.late:,}" if self.late else ""
        )
        within = self.within_thoughts
        inside = f"{within:,} of {self.samples:,} samples with choices scored within a thought" if within else ""
        seen = f"thoughts treated as part of {how.reasoned:,} of {how.answers:,} answers" if how and how.seen else ""
        refused = f"answers refused or withheld by the endpoint: {self.refused:,}" if self.refused else ""
        short = f"prompts that the endpoint seems to have cut: {self.cut_there:,}" if self.cut_there else ""
        several = f"answered by {self.models} models, as the endpoint names them" if self.models > 1 else ""
        same = f"requests whose samples are all the same text: {self.same_samples:,}" if self.same_samples else ""
        empty = f"empty answers of the endpoint: {self.empty:,}" if self.empty else ""
        batch = f"{self.differing} of {self.repeated} answers asked again alone differed" if self.differing else ""
        part = str(self.so_far) if self.so_far else ""
        told = (part, tied, alone, inside, cut, seen, late, refused, empty, short, several, same, batch)
        return [text for text in told if text]


class Provenance(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything needed to repeat the score."""

    shardmark: str
    git_commit: str | None
    python: str
    packages: dict[str, str]
    hardware: dict[str, Any]
    config: dict[str, Any]
    "The settings of the `model` and the `dataset`, the `weights`, and the `adapter` if there is one."
    rows: dict[str, Any]
    "The origin of the data set's rows."
    engines: list[EngineUse] = msgspec.field(default_factory=list)
    "The engines that answered, if the model's backend has several."
    components: dict[str, str] = msgspec.field(default_factory=dict)
    "The digest of each part of the data set, to tell what differs between two scores."
    model_components: dict[str, str] = msgspec.field(default_factory=dict)
    "The same for the model; earlier versions did not note them."
    taken: list[Taken] = msgspec.field(default_factory=list)
    "The sources of the answers that came from a shared store."
    inference: Timings | None = None
    "In files of version 0.1; now in a file of its own."
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
