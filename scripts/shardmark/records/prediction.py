"""What a model answered to a request: a line of a prediction file or of a partial file, its `id` first.

Which class a line has shows in its keys: log-likelihoods, a text, or a list of samples.
"""

import msgspec

from shardmark.records.base import Record, Unreadable, convert, parse


class Scored(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The log-likelihoods of a request's choices; a text that is scored as a whole is the only one."""

    id: str
    "The request's."
    logprobs: list[float]
    "Natural logarithm, summed over the tokens of each choice."
    tokens: list[int]
    "How many tokens of each choice were scored."
    greedy: list[bool]
    "Whether the model would have written each choice itself."
    cut: int
    "How many tokens of the context were cut to fit the window, at most."
    alone: int = 0
    "How many choices were tokenized without their context, because a token spans both."
    opened: bool = False
    "Whether the context ends within a thought, so that the choices were scored as a part of it."


Mark = tuple[int, str]
"A special token that marks a thought, and the place in the text where it stands; a text has no special tokens."


def _marked(text: str, marks: list[Mark]) -> str:
    """A text with its marks."""
    ends = [place for place, _ in marks]
    parts = (text[begin:end] + mark for begin, (end, mark) in zip([0, *ends], marks, strict=False))
    return "".join(parts) + text[ends[-1] if ends else 0 :]


class Output(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One of several texts that a model wrote."""

    text: str
    "It ends before the first stop string, and has no special tokens."
    tokens: int
    "How many were written."
    end: str
    "What ended it: eos, stop, length, or time where the model's file has a limit of seconds."
    cut: int
    "How many tokens of the prompt were cut to fit the window."
    opened: str = ""
    "As of `Generated`, as are the next two."
    thought: int = 0
    marks: list[Mark] = msgspec.field(default_factory=list)

    @property
    def marked(self) -> str:
        """The text with its marks."""
        return _marked(self.text, self.marks)


class Generated(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The only text that a model wrote."""

    id: str
    "The request's."
    text: str
    "This and the next three as of `Output`."
    tokens: int
    end: str
    cut: int
    opened: str = ""
    "The mark of a thought that the prompt ends with, such as <think>."
    thought: int = 0
    "How many of the tokens are thoughts, marks and all. Earlier versions did not count them."
    marks: list[Mark] = msgspec.field(default_factory=list)
    "The special tokens that mark thoughts in the text, in order."

    @property
    def marked(self) -> str:
        """The text with its marks."""
        return _marked(self.text, self.marks)

    @property
    def outputs(self) -> "list[Generated]":
        """The text as the only sample."""
        return [self]


class Sampled(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Several texts that a model wrote for one request."""

    id: str
    "The request's."
    samples: list[Output]
    opened: str = ""
    "As of `Generated`; the prompt is the same for all samples."

    @property
    def outputs(self) -> list[Output]:
        """The texts, of which there is at least one."""
        return self.samples


Written = Generated | Sampled
"What a model wrote."
Prediction = Scored | Written

KINDS: dict[str, type[Prediction]] = {"logprobs": Scored, "text": Generated, "samples": Sampled}
"The class of a line by the key that only this one has."
_DECODERS = {key.encode(): msgspec.json.Decoder(kind) for key, kind in KINDS.items()}


def read_prediction(line: bytes) -> Prediction:
    """The prediction in a line. Raises Unreadable.

    There may be millions: the second key of a line as Shardmark writes it tells the class without parsing it.
    """
    try:
        return _DECODERS[line.split(b'"', 6)[5]].decode(line)
    except (LookupError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # a surrogate, another order of keys, or a mistake: the slow way tells which
    return prediction_of(parse(line))


def prediction_of(value: object) -> Prediction:
    """The prediction that a JSON value is. Raises Unreadable."""
    kinds = [kind for key, kind in KINDS.items() if isinstance(value, dict) and key in value]
    if len(kinds) != 1:
        raise Unreadable(f"no prediction has these keys: {sorted(value) if isinstance(value, dict) else value!r}")
    return convert(value, kinds[0])
