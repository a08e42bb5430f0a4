"""config/datasets/*.yaml, one file per data set: the source of its rows, its prompts, and how answers are judged."""

from collections.abc import Iterator
from functools import reduce
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from shardmark.config.base import Chat
from shardmark.config.circular import AnyCircular, Circular
from shardmark.config.few_shot import FewShot
from shardmark.config.row_files import Files, RowFiles
from shardmark.config.synthetic import AnySynthetic
from shardmark.errors import nearest
from shardmark.filters import AnyFilter
from shardmark.filters.majority_vote import MajorityVote
from shardmark.metrics import AnyMetric
from shardmark.metrics.base import Metric, Scoring
from shardmark.metrics.repeats import Majority
from shardmark.settings import Settings, Wrong, refusal


class Source(RowFiles):
    """The source of the rows."""

    hub: str | None = None
    "The data set's id on the Hub, e.g. openai/gsm8k."
    config: str | None = None
    "Its configuration (subset) on the Hub."
    revision: str | None = None
    "Branch, tag or commit on the Hub; the commit it stands for is pinned in the lock."
    split: str = "test"
    "The split on the Hub."
    local: str | None = None
    "The file below `data_root` that holds the same rows under the same column names; or a glob."
    file: Files | None = None
    "A file of your own instead of the Hub: JSON lines, JSON, CSV, TSV, Parquet or Arrow; a glob, or a list of both."

    synthetic: AnySynthetic | None = Field(None, exclude_if=lambda made: made is None)  # so that digests stay
    "Rows that are generated from a seed, instead of a hub or a file."

    @model_validator(mode="after")
    def _one_source(self) -> "Source":
        if sum(map(bool, (self.hub, self.file, self.synthetic))) != 1:
            raise ValueError("give exactly one of hub, file and synthetic")
        if self.local is None and self.file is None:
            given = sorted(self.model_fields_set & RowFiles.model_fields.keys())
            if given:
                raise ValueError(f"{', '.join(given)}: only for files, and there are none")
        return self

    @property
    def patterns(self) -> list[str]:
        """The paths and globs of `file`, as a list."""
        return [self.file] if isinstance(self.file, str) else list(self.file or ())


Role = Literal["system", "user", "assistant"]


class Message(Settings):
    """A message of a chat."""

    role: Role
    "The speaker's role."
    content: str
    "Jinja template of the message's text."


class Generation(Settings):
    """How an answer is generated."""

    max_new_tokens: PositiveInt = 256
    "The most tokens of an answer."
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default=[])
    "The answer ends before any of these strings."
    min_new_tokens: NonNegativeInt = 0
    "The fewest tokens before the model may end the text; a stop string ends it anyway."
    temperature: float = Field(0.0, ge=0, allow_inf_nan=False)
    "0 takes the likeliest token each time; above 0, tokens are sampled, at 1 by the model's own probabilities."
    top_k: NonNegativeInt = 0
    "Sample from this many of the likeliest tokens; 0 for all."
    top_p: float = Field(1.0, gt=0, le=1)
    "Sample from the smallest set of likeliest tokens that together have this probability."
    seed: NonNegativeInt = 0
    "Another number samples other answers. Each request is sampled independently, so nothing else changes them."
    samples: PositiveInt = 1
    "How many answers to sample for each request; `repeats` of a metric, or a filter, says how they are combined."

    @model_validator(mode="after")
    def _fits_together(self) -> "Generation":
        drawn = [
            name for name in ("top_k", "top_p", "seed") if getattr(self, name) != type(self).model_fields[name].default
        ]
        if drawn and not self.temperature:
            raise ValueError(f"{', '.join(drawn)}: only used if temperature is above 0")
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(f"min_new_tokens {self.min_new_tokens} is more than max_new_tokens {self.max_new_tokens}")
        if self.samples > 1 and not self.temperature:
            raise ValueError("samples above 1 are all the same unless temperature is above 0")
        return self


LIKELIHOOD = {"continuation"}
CHOOSING = {"choices", "scoring", "duplicate_choices"}
WRITING = {"generation", "filters", "chains"}
FOREIGN = {
    "generate": CHOOSING | LIKELIHOOD,
    "choice": WRITING,
    "loglikelihood": CHOOSING | WRITING | {"circular"},
    "rolling": CHOOSING | LIKELIHOOD | WRITING | {"circular", "preamble", "messages", "target", "few_shot"},
}
"The keys that do not apply to a kind."


def _is_none(value: object) -> bool:
    """Whether a setting is absent: it is then left out, so that digests of older files stay the same."""
    return value is None


Topic = Literal[
    "knowledge",
    "reasoning",
    "mathematics",
    "code",
    "instructions",
    "reading",
    "language",
    "long-context",
    "truth",
    "demo",
]
"The subjects of a data set, by which `list` groups."

Variables = dict[str, str]


class DatasetConfig(Settings):
    """A data set (a task). The file's name is its name."""

    include: str | list[str] = Field(default=[], exclude=True)
    "Names of other files here whose keys apply unless this file has them. Mappings merge, null removes a key."
    parts: list[str] | dict[str, Variables] | None = Field(None, exclude=True)
    "Data sets that this file stands for, as FILE.PART. `${name}` in a text is the part, `${key}` a value given here."
    parts_mean: Literal["macro", "micro"] = Field("macro", exclude=True)
    "How parts are averaged: each counts the same (macro), or in proportion to its samples (micro)."

    description: str = ""
    "One line for the report."
    topics: list[Topic] = Field(default=[], exclude=True)
    "The subjects of the data set, for `list`."
    licence: str | None = Field(None, exclude=True)
    "The licence of its rows, as an SPDX identifier or in words."
    paper: str | None = Field(None, exclude=True)
    "Address of the paper that describes it."
    same_as: str | None = Field(None, exclude=True, pattern=r"^(lm_eval|opencompass):\S+$")
    "The origin of the prompts: lm_eval:TASK, or opencompass:FILE below its configs/datasets. Tests compare them."
    source: Source
    kind: Literal["generate", "choice", "loglikelihood", "rolling"]
    "generate: write an answer. choice: the likeliest of several. loglikelihood: of one text. rolling: of a long text."
    where: str | None = None
    "Jinja expression; only rows for which it is true are used, e.g. `choices.text | length == 4`."
    id_column: str | None = None
    "The column that names a row in the report and in sample files; without it, rows are numbered from 0."
    group_by: str | None = None
    "The column that assigns rows to groups with scores of their own, e.g. MMLU's `subject`, within one data set."
    group_mean: Literal["micro", "macro"] = "micro"
    "With group_by, the leaderboard's value: the mean over samples (micro), or over groups (macro)."
    preamble: str = ""
    "Jinja template of the text that comes once before the examples and the prompt."
    prompt: str | None = None
    "Jinja template of the prompt. With scoring perplexity it contains `choice` and is rendered for each choice."
    messages: list[Message] | None = Field(None, min_length=1)
    "A chat, formatted by each model's own chat template. Besides a prompt, it is used when models are asked in chats."
    apply_chat_template: Chat | None = Field(None, exclude_if=_is_none)
    "Ask in a chat; auto: the models with a template for it. null: as the model's file says, by default not."
    fewshot_as_multiturn: bool | None = Field(None, exclude_if=_is_none)
    "In a chat, examples are separate turns; false: they come before the question, in one message."
    system_instruction: str | None = Field(None, exclude_if=_is_none)
    "Text before everything else; in a chat, the system's message."
    choices: str | list[str] | None = None
    "For kind choice: a template for each choice, or one Jinja expression for the list, e.g. `choices.text`."
    continuation: str | None = None
    "kinds choice, loglikelihood: template of what follows the prompt; if null, the choice or target, after a space."
    scoring: Scoring = "sum"
    "For kind choice: rank by summed log-likelihood, per token, character or byte, or the whole prompt's perplexity."
    duplicate_choices: Literal["refuse", "keep"] = "refuse"
    "For kind choice: a row whose right choice occurs twice among its choices is an error, or is asked as it is."
    target: str | None = None
    "Jinja expression: the answer (or list of right answers); for kind choice, the index from 0 (or a list of them)."
    circular: AnyCircular | None = Field(None, exclude_if=_is_none)
    "Ask a row once for each rotation of the options in the column given here; it is right if all rotations are."
    few_shot: FewShot | None = None
    generation: Generation = Generation()
    cluster_by: str | None = None
    "The column that rows with a common passage or origin share; error bars then count clusters, not rows."
    filters: list[AnyFilter] = Field(default=[])
    "Filters from the raw output to the answer, in order."
    chains: dict[Annotated[str, Field(pattern=r"^[\w@.+-]+$")], list[AnyFilter]] = Field(default={})
    "Several chains of filters by name, instead of `filters`; the metrics judge each."
    metrics: list[AnyMetric] = Field(min_length=1)
    "The metrics; the first is shown in the leaderboard."
    chance: float | None = Field(None, ge=0, le=1)
    "The expected score of guessing; shown in the report."
    version: NonNegativeInt = 0
    "A version number for your own use; shown in the report."

    @model_validator(mode="before")
    @classmethod
    def _names_alone(cls, values: object) -> Any:
        """`metrics: [accuracy]` is short for `metrics: [{name: accuracy}]`; the same for filters."""
        if not isinstance(values, dict):
            return values
        return values | {key: _named(values[key]) for key in ("filters", "chains", "metrics") if key in values}

    @model_validator(mode="after")
    def _kind_fits(self) -> "DatasetConfig":
        given = {key for key in self.model_fields_set if getattr(self, key) is not None}
        if self.kind == "choice" and self.choices is None:
            raise ValueError("kind choice needs choices")
        if self.kind != "rolling" and self.target is None:
            raise ValueError(f"kind {self.kind} needs target")
        if foreign := given & FOREIGN[self.kind]:
            raise ValueError(f"kind {self.kind} has no {', '.join(sorted(foreign))}")
        return self

    @model_validator(mode="after")
    def _words_fit(self) -> "DatasetConfig":
        examples = self.few_shot.source if self.few_shot else None
        if examples and not self.source.hub and not (examples.file or examples.hub):
            raise ValueError("few_shot.source names neither a file, as source does, nor a hub")
        if "parts_mean" in self.model_fields_set and self.parts is None:
            raise ValueError("parts_mean has no effect: there are no parts")
        if self.group_mean == "macro" and not self.group_by:
            raise ValueError("group_mean has no effect: group_by names no column")
        if self.prompt is None and self.messages is None:
            raise ValueError("give prompt, or messages for a chat, or both")
        if self.prompt is None and self.apply_chat_template is False:
            raise ValueError("apply_chat_template is false, but there are only messages: add a prompt, or drop it")
        if self.kind == "rolling" and self.apply_chat_template:
            raise ValueError("apply_chat_template has no effect: kind rolling reads whole texts")
        if self.scoring == "perplexity" and self.continuation is not None:
            where = "a message" if self.prompt is None else "prompt"
            raise ValueError(
                f"scoring perplexity uses the whole prompt: put {{{{ choice }}}} into {where} and drop continuation"
            )
        if self.messages and self.preamble and self.prompt is None:
            raise ValueError("preamble is for prompt; begin messages with one of role system instead")
        if self.messages and self.messages[-1].role == "system":
            raise ValueError("the last message must be of role user, or assistant to begin the answer, not system")
        return self

    def _chains(self) -> dict[str, list[AnyFilter]]:
        return self.chains or {"": self.filters}

    def _answers_left(self, metric: Metric) -> dict[str, int]:
        """How many answers to a request each chain of filters leaves for a metric."""
        return {
            name: reduce(lambda answers, each: each.left(answers), filters, self.generation.samples)
            for name, filters in self._chains().items()
            if metric.chain in (None, name)
        }

    @property
    def is_repeated(self) -> bool:
        """Whether `repeats` of a metric, or its default, combines several answers into one value."""
        return bool(self.circular) or any(
            m.is_repeated(left) for m in self.metrics for left in self._answers_left(m).values()
        )

    def _wrong_repeats(self, number: int, metric: Metric) -> Iterator[Wrong]:
        """The faults in how a metric combines several answers."""
        samples, repeats = self.generation.samples, metric.repeats
        chain, left = min(self._answers_left(metric).items(), key=lambda item: item[1])
        k, key = metric.wanted()
        taken = f"{f'chain {chain!r}' if chain else 'a filter'} leaves {left}"
        here = ("metrics", number, "repeats")
        if repeats and self.kind != "generate":
            yield Wrong(here, f"has no effect: kind {self.kind} has one answer", "drop it")
        elif repeats and samples == 1:
            fix = "set generation.samples above 1, with a temperature, or drop it"
            yield Wrong(here, "has no effect: each request has one answer, as generation.samples is 1", fix)
        elif k > samples:
            what = f"k {k} is more than the answers per request: generation.samples is {samples}"
            yield Wrong(("metrics", number, *key), what, f"set generation.samples to at least {k}, or lower k")
        elif k > left:
            what = f"k {k} is more than the answers per request: {taken}"
            yield Wrong(("metrics", number, *key), what, "lower k, or change the filters")
        elif repeats and left == 1:
            yield Wrong(here, f"has no effect: {taken}", "drop it, or change the filters")
        judged = [filters for name, filters in self._chains().items() if metric.chain in (None, name)]
        first = [(*filters, repeats)[0] for filters in judged]
        if metric.finds_answers and any(isinstance(each, MajorityVote | Majority) for each in first):
            what = f"the vote is on whole texts, in which {metric.name} finds the answer only then"
            yield Wrong(("filters",), what, "begin with a filter that finds the answer, such as last_box")
        if repeats and repeats.right_or_wrong and not metric.is_right_or_wrong():
            what = f"{repeats.name} counts right answers, but the score of an answer may be a fraction"
            fix = f"use avg or maj for {metric.name}, or a right-or-wrong metric such as exact_match"
            yield Wrong((*here, "name"), what, fix)

    def example_source(self) -> Source | None:
        """The source of few-shot examples; None if there are none, or if they come from the data set's own rows."""
        if self.few_shot is None or self.few_shot.source is None:
            return None
        own = self.few_shot.source.model_dump(exclude_none=True)
        reading = set(RowFiles.model_fields) if "file" in own or "local" in own else set()
        inherited = self.source.model_dump(exclude_none=True, include={"hub", "config", "revision", "split"} | reading)
        if "file" in own:
            inherited = {key: value for key, value in inherited.items() if key in reading}
        return Source.model_validate(inherited | own)

    @model_validator(mode="after")
    def _circular_fits(self) -> "DatasetConfig":
        if self.circular is None:
            return self
        wrong = []
        if self.generation.samples > 1:
            what = "circular judges one answer per rotation"
            wrong.append(Wrong(("generation", "samples"), what, "drop samples, or circular"))
        if self.kind == "choice" and self.circular.letters != Circular.model_fields["letters"].default:
            what = "has no effect: the target of kind choice is an index"
            wrong.append(Wrong(("circular", "letters"), what, "drop it"))
        if self.chance is not None:
            what = "the chance of guessing is lower where all rotations must be right"
            wrong.append(Wrong(("chance",), what, "drop it; `chance: null` removes that of an included file"))
        wrong += [
            Wrong(("metrics", number), f"{metric.name} does not judge each answer as right or wrong", "drop it")
            for number, metric in enumerate(self.metrics)
            if not metric.is_right_or_wrong()
        ]
        if wrong:
            raise refusal(DatasetConfig, wrong)
        return self

    @model_validator(mode="after")
    def _metrics_fit(self) -> "DatasetConfig":
        if self.chains and self.filters:
            raise ValueError("give filters or chains, not both")
        for metric in self.metrics:
            if self.kind not in metric.kinds:
                fit = {"generate": "exact_match", "rolling": "byte_perplexity"}.get(self.kind, "accuracy")
                reads = "compares choices" if self.kind == "generate" else "reads generated text"
                raise ValueError(f"metric {metric.name} {reads}: kind {self.kind} needs one such as {fit}")
            if metric.chain is not None and metric.chain not in self.chains:
                near = nearest(metric.chain, self.chains)
                raise ValueError(f"metric {metric.name}: there is no chain {metric.chain!r}; {near}")
        if wrong := [each for n, metric in enumerate(self.metrics) for each in self._wrong_repeats(n, metric)]:
            raise refusal(DatasetConfig, wrong)
        labels = [
            title
            for metric in self.metrics
            for title in {metric.title(answers) for answers in self._answers_left(metric).values()}
        ]
        if doubled := sorted({label for label in labels if labels.count(label) > 1}):
            raise ValueError(f"metric {doubled[0]} occurs twice in metrics: give one of them its own `label`")
        return self


def _named(values: object) -> Any:
    """Replace names by sections with that name, also inside chains."""
    if isinstance(values, dict):
        return {key: _named(value) if isinstance(value, list) else value for key, value in values.items()}
    if not isinstance(values, list):
        return values
    return [{"name": value} if isinstance(value, str) else _own(value) for value in values]


def _own(value: object) -> Any:
    """Let `{file: my.py}` do without a name."""
    return {"name": "own"} | value if isinstance(value, dict) and "file" in value else value
