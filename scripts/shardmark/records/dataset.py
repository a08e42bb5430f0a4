"""A data set as it is planned (memos in results/plans/datasets/*.json), and what its task file tells of it.

A task file (results/tasks/*.jsonl) has the header in its first, sealed line, and a line for each sample.
"""

from typing import Any

import msgspec

from shardmark import layout
from shardmark.records.base import Record
from shardmark.records.extent import ExtentRecord
from shardmark.records.origin import Origin
from shardmark.records.request import ChatShape


class DatasetRecord(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a plan has found out of a data set. Keys with a default are left out where they have it."""

    name: str
    digest: str
    "Of its samples and of all that decides their scores."
    file: str
    "Where it is described, for messages."
    kind: str
    "What models are asked for, as in its scores (`Kind`)."
    is_chat: bool
    "Whether models are asked messages, and not a text."
    chats: list[ChatShape] = msgspec.field(default_factory=list)
    "The shapes of these chats, each once: as many as are looked at before a model is loaded."
    samples: int
    rows: int
    "Of the source; a limit leaves some out."
    requests: int
    "How many different ones there are: samples may share one."
    head: int
    "How many characters all prompts begin with."
    remarks: list[str] = msgspec.field(default_factory=list)
    "What a reader of its scores should know."
    limit: ExtentRecord | None = None
    "What part of it is asked, if not all."
    read: int
    "This and the next two as of `Work`."
    written: int
    longest: int
    origin: Origin | None = None
    "Where its rows are from. The memo does not say it: the same rows may lie elsewhere by now."

    @property
    def full_name(self) -> str:
        """What its tasks and scores are filed under."""
        return layout.full_name(self.name, self.digest)


class TaskDataset(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a task file tells of its data set; for the names see `DatasetRecord`."""

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
        """What to call it in messages."""
        return self.file or self.name

    @property
    def full_name(self) -> str:
        """What its tasks and scores are filed under."""
        return layout.full_name(self.name, self.digest)


class LmEvalRules(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of one of lm-eval's tasks that decide its scores, by its names.

    Functions are `{"!function": NAME, "in": FOLDER}`; scoring puts a `Function` in the place of each.
    """

    output_type: str
    metric_list: list[dict[str, Any]] | None
    filter_list: list[dict[str, Any]] | None
    process_results: Any
    repeats: int
    unsafe_code: Any = False
    num_fewshot: int | None = None
    "This and the version are told, and decide nothing."
    version: Any = None


class LmEvalGroup(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of lm-eval's tasks."""

    name: str
    tasks: list[str]
    aggregates: list[dict[str, Any]]
    "What it makes of its tasks' metrics, as its YAML has it."


class LmEvalJudging(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What scoring must know of lm-eval's tasks: the setting `lm_eval` of a task file."""

    tasks: dict[str, LmEvalRules]
    groups: list[LmEvalGroup]
    "The group that was asked for, then those in it; none if it is one task."


class TaskHeader(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line of a task file."""

    dataset: TaskDataset
    settings: dict[str, Any]
    "All settings, as they were when it was planned: of the data set, or what scoring must know of lm-eval's tasks."
    samples_sha256: str
    "Of the lines that follow."


class TaskTurn(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A sample asked with its options rotated; the keys are as of `TaskLine`."""

    request: str
    target: Any
    choices: list[Any] | None = None


class TaskLine(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What scoring needs to know of a sample, beside the prediction."""

    sample: str
    "Its name."
    request: str
    "The id of the request that it asks."
    target: Any
    "The right answer, or a list of them; of choices, indices."
    row: Any
    "Of the data set."
    choices: list[Any] | None = None
    group: str | None = None
    lm_eval: dict[str, bool] | None = None
    "Of a task of lm-eval's: `several`, whether `target` is a list of right answers."
    turns: list[TaskTurn] = msgspec.field(default_factory=list)
    "Of a circular data set, the other rotations of the row's options: the first by one place."

    @property
    def several(self) -> bool:
        """Whether `target` is a list of right answers, for lm-eval's metrics."""
        return bool(self.lm_eval and self.lm_eval.get("several"))

    @property
    def right(self) -> list[Any]:
        """All right answers."""
        return self.target if isinstance(self.target, list) else [self.target]
