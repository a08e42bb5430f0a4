"""A model's answer to a request: a line of a prediction file or of a partial file, with `id` as its first key.

The keys show which class a line has: log-likelihoods, a text, or a list of samples. A partial file also has lines of
another kind, for parts of answers.
"""

from typing import Any

import msgspec

from shardmark.records.base import Record, Unreadable, convert, parse

Frame = tuple[str | tuple[int, str], ...]
"""What a chat template writes around messages (tasks/frames.py): its own text, and for the text of a message the number
of the message and the name of the form that it has there."""


class Scored(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The log-likelihoods of a request's choices; a text that is scored as a whole is the only choice."""

    id: str
    "The id of the request."
    logprobs: list[float]
    "Natural logarithms, summed over the tokens of each choice."
    tokens: list[int]
    "How many tokens of each choice were scored."
    greedy: list[bool]
    "Whether the model itself would have written each choice."
    cut: int
    "The largest number of tokens that were cut from a context to fit the window."
    alone: int = 0
    "How many choices were tokenized without their context because a token spans both."
    opened: bool = False
    "Whether the context ends within a thought, so that the choices were scored as a part of it."
    read: int = 0
    "As in `Generated`, summed over the requests of all choices."
    written: int = 0
    "How many tokens an endpoint wrote besides, which it counts as well."
    served: str = ""
    "As in `Generated`, of all choices: each that differs on a line of its own."
    sent: tuple[Frame | int, ...] = ()
    "As in `Generated`; one frame for all choices, or one for each if they differ."


Mark = tuple[int, str]
"A special token that marks a thought, and its position in the text; the text itself has no special tokens."


def _marked(text: str, marks: list[Mark]) -> str:
    """A text with its marks inserted."""
    ends = [place for place, _ in marks]
    parts = (text[begin:end] + mark for begin, (end, mark) in zip([0, *ends], marks, strict=False))
    return "".join(parts) + text[ends[-1] if ends else 0 :]


class Output(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One of several texts that a model wrote."""

    text: str
    "It ends before the first stop string, and has no special tokens."
    tokens: int
    "How many tokens were written."
    end: str
    """Why it ended: eos, stop, length, or time if the model's file has a limit of seconds. An endpoint, which does not
    tell eos from a stop string, also has refusal if the model refused, and filter if its provider withheld the text."""
    cut: int
    "How many tokens of the prompt were cut to fit the window."
    opened: str = ""
    "As in `Generated`, as is everything below."
    thought: int = 0
    marks: list[Mark] = msgspec.field(default_factory=list)
    reasoning: str = ""
    read: int = 0
    served: str = ""

    @property
    def marked(self) -> str:
        """The text with its marks inserted."""
        return _marked(self.text, self.marks)


class Generated(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The only text that a model wrote for a request."""

    id: str
    "The id of the request."
    text: str
    "This and the next three are as in `Output`."
    tokens: int
    end: str
    cut: int
    opened: str = ""
    "The mark of a thought that the prompt ends with, such as <think>."
    thought: int = 0
    "How many of the tokens are thoughts, including their marks. Earlier versions did not count them."
    marks: list[Mark] = msgspec.field(default_factory=list)
    "The special tokens that mark thoughts in the text, in their order."
    reasoning: str = ""
    "The thoughts of a model whose endpoint returns them apart from the text."
    read: int = 0
    "How many tokens an endpoint reports to have read."
    served: str = ""
    "The model that an endpoint says it answered with: its name, its provider and its fingerprint."
    sent: tuple[Frame | int, ...] = ()
    """The frame of the chat, if it was sent as a text. In a file, a frame that an earlier line has is its number there,
    from 0. Earlier versions did not keep it."""

    @property
    def marked(self) -> str:
        """The text with its marks inserted."""
        return _marked(self.text, self.marks)

    @property
    def outputs(self) -> "list[Generated]":
        """The text as a list of one sample."""
        return [self]


class Sampled(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Several texts that a model wrote for one request."""

    id: str
    "The id of the request."
    samples: list[Output]
    opened: str = ""
    "As in `Generated`, like the next one; the prompt is the same for all samples."
    sent: tuple[Frame | int, ...] = ()

    @property
    def outputs(self) -> list[Output]:
        """The texts, at least one."""
        return self.samples


class Part(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer to one of the several questions that a request consists of, kept until all of them are answered."""

    part: int
    "The index of its sample, choice or window."
    of: int
    "How many of them the request has."
    request: str
    "The id of the request."
    answer: Any
    "In the backend's own form."


Written = Generated | Sampled
"Texts that a model wrote."
Prediction = Scored | Written

KINDS: dict[str, type[Prediction]] = {"logprobs": Scored, "text": Generated, "samples": Sampled}
"The class of a line by the key that only this class has."
_DECODERS = {key.encode(): msgspec.json.Decoder(kind) for key, kind in KINDS.items()}


def read_prediction(line: bytes) -> Prediction:
    """The prediction in a line. Raises Unreadable.

    There may be millions of lines: in those that Shardmark writes, the second key tells the class without parsing.
    """
    try:
        return _DECODERS[line.split(b'"', 6)[5]].decode(line)
    except (LookupError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # a surrogate, another order of keys, or a mistake: the slow way finds out which
    return prediction_of(parse(line))


def prediction_of(value: object) -> Prediction:
    """The prediction in a plain JSON value. Raises Unreadable."""
    kinds = [kind for key, kind in KINDS.items() if isinstance(value, dict) and key in value]
    if len(kinds) != 1:
        raise Unreadable(f"not the keys of a prediction: {sorted(value) if isinstance(value, dict) else value!r}")
    return convert(value, kinds[0])
