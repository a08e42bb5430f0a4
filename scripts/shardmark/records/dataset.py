"""A data set as planned (memos in results/plans/datasets/*.json) and as described in its task file.

A task file (results/tasks/*.jsonl) has the header in its first, sealed line, and then a line for each sample.
"""

from typing import Any

import msgspec

from shardmark import layout
from shardmark.records.base import Record
from shardmark.records.extent import ExtentRecord
from shardmark.records.origin import Origin
from shardmark.records.request import ChatShape


class DatasetRecord(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A plan's findings about a data set. Keys that have their default value are left out."""

    name: str
    digest: str
    "The digest of its samples and of everything that decides their scores."
    file: str
    "The file that describes it, for messages."
    kind: str
    "The kind of its requests, as in its scores (`Kind`)."
    is_chat: bool
    "Whether models are sent messages rather than a text."
    chats: list[ChatShape] = msgspec.field(default_factory=list)
    "The distinct shapes of these chats, up to the number that is checked before a model is loaded."
    samples: int
    rows: int
    "How many rows the source has; a limit leaves some out."
    requests: int
    "How many distinct requests there are: samples may share one."
    head: int
    "The length in characters of the beginning that all prompts share."
    remarks: list[str] = msgspec.field(default_factory=list)
    "Remarks that a reader of its scores should know."
    limit: ExtentRecord | None = None
    "The part of it that is asked, if not all."
    read: int
    "This and the next two are those of `Work`."
    written: int
    longest: int
    origin: Origin | None = None
    "The origin of its rows. The memo leaves it out: the same rows may be in another place by now."

    @property
    def full_name(self) -> str:
        """The name that its tasks and scores are filed under."""
        return layout.full_name(self.name, self.digest)


class TaskDataset(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The description of a data set in its task file; for the names see `DatasetRecord`."""

    name: str
    file: str = ""
    digest: str
    origin: Origin
    rows: int
    is_chat: bool = False
    remarks: list[str] = msgspec.field(default_factory=list)
    limit: ExtentRecord | None = None
    components: dict[str, str] = msgspec.field(default_factory=dict)
    "The digest of each of its parts, such as `template`, `few_shot`, `rows`, `filters` and `metrics`."

    @property
    def where(self) -> str:
        """Its name in messages."""
        return self.file or self.name

    @property
    def full_name(self) -> str:
        """The name that its tasks and scores are filed under."""
        return layout.full_name(self.name, self.digest)


class LmEvalRules(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of one of lm-eval's tasks that decide its scores, under lm-eval's names.

    Functions are `{"!function": NAME, "in": FOLDER}`; scoring replaces each by a `Function`.
    """

    output_type: str
    metric_list: list[dict[str, Any]] | None
    filter_list: list[dict[str, Any]] | None
    process_results: Any
    repeats: int
    unsafe_code: Any = False
    num_fewshot: int | None = None
    "This and the version are for information, and decide nothing."
    version: Any = None


class LmEvalGroup(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of lm-eval's tasks."""

    name: str
    tasks: list[str]
    aggregates: list[dict[str, Any]]
    "How it aggregates its tasks' metrics, as in its YAML."


class LmEvalJudging(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that scoring must know of lm-eval's tasks: the setting `lm_eval` of a task file."""

    tasks: dict[str, LmEvalRules]
    groups: list[LmEvalGroup]
    "The group that was asked for, then the groups in it; none for a single task."


class Meant(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A data set that a name of lm-eval's stood for in some plan."""

    dataset: str
    digest: str
    asked: str
    "The digest of everything in its tasks that decides what is asked, and not how answers are scored."


class Meanings(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All data sets that a name of lm-eval's has stood for in one configuration, the latest first.

    (results/plans/lm_eval_names/*.json)
    """

    meant: list[Meant]
    latest: list[str] = msgspec.field(default_factory=list)
    "The data sets that it stood for in the latest plan; empty if written by 0.2.0, for all of them."


class TaskHeader(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line of a task file."""

    dataset: TaskDataset
    settings: dict[str, Any]
    "All settings at the time of the plan: the data set's, or what scoring must know of lm-eval's tasks."
    samples_sha256: str
    "SHA-256 of the lines that follow."


class TaskTurn(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A sample asked with its options rotated; the keys are those of `TaskLine`."""

    request: str
    target: Any
    choices: list[Any] | None = None


class TaskLine(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything that scoring needs for a sample besides the prediction."""

    sample: str
    "Its name."
    request: str
    "The id of its request."
    target: Any
    "The right answer, or a list of them; for choices, indices."
    row: Any
    "The row of the data set."
    choices: list[Any] | None = None
    group: str | None = None
    lm_eval: dict[str, bool] | None = None
    "For a task of lm-eval's: `several`, whether `target` is a list of right answers."
    turns: list[TaskTurn] = msgspec.field(default_factory=list)
    "For a circular data set, the other rotations of the row's options, the first of them by one place."

    @property
    def several(self) -> bool:
        """Whether `target` is a list of right answers, for lm-eval's metrics."""
        return bool(self.lm_eval and self.lm_eval.get("several"))

    @property
    def right(self) -> list[Any]:
        """All right answers."""
        return self.target if isinstance(self.target, list) else [self.target]
