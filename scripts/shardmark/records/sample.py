"""A line of a samples file: one sample with its answer and its scores.

results/samples/{model}@{digest}/{dataset}@{digest}.jsonl, in the order of the data set.
"""

import json
from typing import Any

import msgspec

from shardmark.files import json_line
from shardmark.printable import without_surrogates
from shardmark.records.base import Record, Unreadable, convert, shallow
from shardmark.records.score import finite

Text = str | tuple[int, int] | None
"""A text that a filter has left: itself, or the start and the end of a piece of the text before, in characters; None if
nothing was found. The text before is the one in the same place, or the last one."""
Piece = str | tuple[int, int]
"A text, or the start and the end of a piece of another one, in characters."
Steps = dict[str, dict[str, list[Text]]]
"""By chain of filters and number of the filter, the texts that it has changed. 0 is for what the first filter was
given, if that is not the output. The last filter's are left out where `answer` or `answers` has them."""


class Rotation(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The result of one rotation of a sample's options; the keys are those of `Sample`."""

    request: str
    output: Any
    answer: Any
    target: Any
    logprobs: list[float | None] | None = None
    steps: Steps | None = None


class Sample(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One scored sample. Keys that have their default value are left out."""

    sample: str
    request: str
    "The id of its request."
    prompt: str
    "The prompt; of a chat, the messages under the names of their roles."
    sent: list[Piece] | None = None
    """For a chat, the text that the model was sent, with pieces of `prompt`. None if it was sent `prompt` or the
    messages, or was asked by an earlier version."""
    choices: list[Any] | None = None
    "Texts; for lm-eval's tasks, also other values."
    output: Any
    "The text that the model wrote; for choices, the chosen one."
    logprobs: list[float | None] | None = None
    "Summed log-likelihood (natural log) of each choice."
    tokens: list[int] | None = None
    "How many tokens of each choice were scored."
    answer: Any
    """The answer found in the output, or the index of the chosen choice; None if nothing was found. If there are
    several answers, the first or the one with the most votes."""
    target: Any
    "The right answer, or a list of them; for choices, indices."
    end: str | None = None
    "Why an output ended: eos, stop, length, time, refusal or filter."
    outputs: list[str] | None = None
    "All outputs, if a request was answered several times."
    answers: dict[str, list[Any]] | None = None
    "The answers by chain of filters, if there are several outputs or chains."
    steps: Steps | None = None
    "What each filter did; None if there are no filters, or an earlier version has scored this."
    scores: dict[str, float | None]
    answer_scores: dict[str, list[float | None]] = msgspec.field(default_factory=dict)
    "The score of each answer, or of each rotation, by metric, if several are judged."
    rotations: list[Rotation] = msgspec.field(default_factory=list)
    "For a circular data set, the result of each rotation of the options; the first is the row as it stands."
    truncated: int
    "How many tokens of the prompt were cut to fit the model's window."
    row: Any
    "The row of the data set."
    group: str | None = None
    tied: bool = False
    "Whether another choice is exactly as good as the best."
    alone: int = 0
    "How many choices were tokenized without the prompt."
    within_thought: bool = False
    "Whether the choices were scored within a thought that the prompt has opened."
    thought_tokens: int | None = None
    "How many tokens of an output are thoughts; None if there are none, or they were not counted."
    answer_tokens: int | None = None
    "How many tokens follow the thoughts."
    thought_cut: bool = False
    "Whether an output ends within a thought, so that it has no answer."
    reasoning: str = ""
    "The thoughts before the first output, if an endpoint returned them separately."

    @property
    def as_sent(self) -> str:
        """The text that the model was sent; the messages of a chat if there is none."""
        if self.sent is None:
            return self.prompt
        return "".join(piece if isinstance(piece, str) else self.prompt[slice(*piece)] for piece in self.sent)


_DECODER = msgspec.json.Decoder(Sample)
ABSENT = msgspec.Raw(b"null")
"The value of a key that a line does not have."


def sample_line(sample: Sample) -> str:
    """A line of a samples file. The values of a data set's rows are left to json, which knows subclasses of numbers."""
    return json_line(shallow(sample))


def read_sample(line: bytes) -> Sample:
    """The sample in a line. Scores and log-likelihoods that are not finite are None. Raises Unreadable."""
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # a surrogate, an infinite number, or a mistake: the slow way finds out which
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not valid JSON: {error}") from error
    return sample_of(value)


def sample_of(value: object) -> Sample:
    """The sample in a plain JSON value, as by `read_sample`."""
    if isinstance(value, dict):
        value = _with_known(value)
        match value:
            case {"rotations": list(rotations)}:
                value["rotations"] = [_with_known(part) if isinstance(part, dict) else part for part in rotations]
        match value:
            case {"scores": dict(scores)}:
                value["scores"] = {name: _known(score) for name, score in scores.items()}
    return convert(value, Sample)


def _with_known(value: dict[str, Any]) -> dict[str, Any]:
    """A copy in which log-likelihoods that are not finite are None."""
    match value:
        case {"logprobs": list(numbers)}:
            return value | {"logprobs": [_known(number) for number in numbers]}
    return dict(value)


def _known(value: Any) -> Any:
    return finite(value) if isinstance(value, float) else value


class SampleParts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A line of a samples file whose texts stay JSON, for readers that only pass them on.

    The keys are those of `Sample`.
    """

    sample: str
    request: msgspec.Raw
    prompt: msgspec.Raw
    sent: msgspec.Raw = ABSENT
    choices: msgspec.Raw = ABSENT
    output: msgspec.Raw
    logprobs: msgspec.Raw = ABSENT
    tokens: msgspec.Raw = ABSENT
    answer: msgspec.Raw
    target: msgspec.Raw
    end: str | None = None
    outputs: msgspec.Raw = ABSENT
    answers: msgspec.Raw = ABSENT
    steps: msgspec.Raw = ABSENT
    scores: dict[str, float | None]
    answer_scores: msgspec.Raw = ABSENT
    rotations: msgspec.Raw = ABSENT
    truncated: int
    row: msgspec.Raw
    group: str | None = None
    tied: bool = False
    alone: int = 0
    within_thought: bool = False
    thought_tokens: int | None = None
    answer_tokens: int | None = None
    thought_cut: bool = False
    reasoning: msgspec.Raw = ABSENT

    @property
    def has_answer(self) -> bool:
        """Whether something was found in the output."""
        return bytes(self.answer) != b"null"

    def layer(self, name: str) -> bytes:
        """The keys of a layer as a JSON object, without those that have their default value."""
        found: list[bytes | msgspec.Raw] = []
        for key, start, default in _STARTS[name]:
            value = getattr(self, key)
            if value is not default and value != default:
                found += (start, value if type(value) is msgspec.Raw else msgspec.json.encode(value))
        return b"{" + b"".join(found)[1:] + b"}"


LAYERS = {
    "rows": ("sample", "choices", "target", "row", "group"),
    "prompts": ("prompt", "request"),
    "answers": (
        *("sent", "output", "answer", "scores", "logprobs", "tokens", "end", "outputs", "answers", "steps"),
        *("answer_scores", "rotations", "truncated", "tied", "alone", "within_thought"),
        *("thought_tokens", "answer_tokens", "thought_cut", "reasoning"),
    ),
}
"The keys of a sample by who shares them: all models; all models with the same prompt; none."

_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(SampleParts)}
_STARTS = {name: [(key, f',"{key}":'.encode(), _DEFAULTS[key]) for key in keys] for name, keys in LAYERS.items()}
_PARTS = msgspec.json.Decoder(SampleParts)


def read_parts(line: bytes) -> SampleParts:
    """The sample in a line, with its texts left as JSON that any reader accepts. Raises Unreadable.

    Numbers that are not finite, which JSON lacks, become null; bytes that are not UTF-8 become U+FFFD.
    """
    try:
        return _PARTS.decode(line if line.isascii() else line.decode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        pass  # a surrogate, an infinite number, or a mistake: the slow way finds out which
    try:
        value = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not valid JSON: {error}") from error
    sample = sample_of(value)
    plain = _finite(shallow(sample))
    keys = {key: msgspec.Raw(json.dumps(part).encode()) for key, part in plain.items() if _is_raw(key)}
    return SampleParts(**{**plain, **keys, "sample": _whole(sample.sample), "group": _whole(sample.group)})


def _is_raw(key: str) -> bool:
    return SampleParts.__annotations__[key] is msgspec.Raw


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list) else value


def _whole(text: str | None) -> str | None:
    """A text without unpaired surrogates, which UTF-8 cannot encode."""
    return text and without_surrogates(text)
