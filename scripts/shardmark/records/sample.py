"""A line of a samples file: one sample with its answer and its scores.

results/samples/{model}@{digest}/{dataset}@{digest}.jsonl, in the order of the data set.
"""

import json
from typing import Any

import msgspec

from shardmark.files import json_line
from shardmark.records.base import Record, Unreadable, convert, shallow
from shardmark.records.score import finite


class Rotation(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What came of one rotation of a sample's options; the keys are as of `Sample`."""

    request: str
    output: Any
    answer: Any
    target: Any
    logprobs: list[float | None] | None = None


class Sample(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One scored sample. Keys with a default are left out where they have it."""

    sample: str
    request: str
    "The id of the request that it asked."
    prompt: str
    choices: list[Any] | None = None
    "Texts; of tasks of lm-eval, also other values."
    output: Any
    "What the model wrote; of choices, the chosen one."
    logprobs: list[float | None] | None = None
    "Summed log-likelihood (natural log) of each choice."
    tokens: list[int] | None = None
    "How many tokens of each choice were scored."
    answer: Any
    """What was found in the output, or the index of the chosen choice; None if nothing was found. Of several answers
    the first, or the one that was voted for."""
    target: Any
    "The right answer, or a list of them; of choices, indices."
    end: str | None = None
    "What ended an output: eos, stop, length or time."
    outputs: list[str] | None = None
    "All outputs, where a request was answered several times."
    answers: dict[str, list[Any]] | None = None
    "By chain of filters, the answers, where there are several outputs or chains."
    scores: dict[str, float | None]
    answer_scores: dict[str, list[float | None]] = msgspec.field(default_factory=dict)
    "By metric, the score of each answer, where several are judged; or of each rotation."
    rotations: list[Rotation] = msgspec.field(default_factory=list)
    "Of a circular data set, what came of each rotation of the options; the first is the row as it stands."
    truncated: int
    "How many tokens of the prompt were cut to fit the model."
    row: Any
    "Of the data set."
    group: str | None = None
    tied: bool = False
    "Whether another choice is exactly as good as the best."
    alone: int = 0
    "How many choices were tokenized without the prompt."
    within_thought: bool = False
    "Whether the choices were scored within a thought that the prompt has opened."
    thought_tokens: int | None = None
    "How many tokens of an output are thoughts; None where there are none, or nobody counted."
    answer_tokens: int | None = None
    "How many follow them."
    thought_cut: bool = False
    "Whether an output ends within a thought, so that it has no answer."


_DECODER = msgspec.json.Decoder(Sample)


def sample_line(sample: Sample) -> str:
    """A line of a samples file. Values of a data set's rows are left to json, which knows subclasses of numbers."""
    return json_line(shallow(sample))


def read_sample(line: bytes) -> Sample:
    """The sample in a line. Scores and log-likelihoods that are not finite are None. Raises Unreadable."""
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # a surrogate, an infinite number, or a mistake: the slow way tells which
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not valid JSON: {error}") from error
    return sample_of(value)


def sample_of(value: object) -> Sample:
    """The sample that a JSON value is, as `read_sample`."""
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
