"""Requests to models. A request knows nothing of the model, the data set or the row it came from."""

from typing import ClassVar

from shardmark.records.base import Record, Sparse


class Message(Record, gc=False):
    """A message of a chat. Each model has its own wording for it."""

    role: str
    content: str


class ChatShape(Record):
    """The properties of a chat that decide whether a model's template accepts it."""

    roles: tuple[str, ...]
    is_open: bool
    "Whether the model is to continue the chat rather than score it as a whole."
    begun: str = ""
    "The beginning of the answer, if the assistant speaks last."


Context = str | list[Message]
"A text, or a chat."


class GenerateRequest(Sparse, tag_field="kind", tag="generate"):
    """Continue `prompt`, or answer `messages`, until one of `stop` appears or `max_new_tokens` are written.

    Keys with their default value are left out, so that a request keeps its id when new settings are added.
    """

    kind: ClassVar[str] = "generate"
    max_new_tokens: int
    stop: list[str]
    prompt: str | None = None
    messages: list[Message] | None = None
    "Instead of `prompt`. If the last message is the assistant's, it is continued."
    min_new_tokens: int = 0
    "The least number of tokens before one that ends the text."
    temperature: float = 0.0
    "0 for greedy decoding."
    top_k: int = 0
    "Sample from this many of the likeliest tokens; 0 for all."
    top_p: float = 1.0
    "Sample from the smallest set of likeliest tokens that has this probability."
    seed: int = 0
    "Serves only to make another id: what is sampled depends on the id."
    samples: int = 1
    "How many answers to sample."

    def __post_init__(self) -> None:
        Sparse.__post_init__(self)
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("a request to generate has either a prompt or messages")

    @property
    def context(self) -> Context:
        """The text or chat that a model reads before it answers."""
        return self.messages if self.messages is not None else self.prompt or ""


class ChoiceRequest(Record, tag_field="kind", tag="choice"):
    """The log-likelihood of each continuation given its context: `pairs` of (context, continuation).

    An empty context stands for the start of a text: the whole continuation is scored, which may then also be messages.
    """

    kind: ClassVar[str] = "choice"
    pairs: list[tuple[Context, Context]]

    @property
    def context(self) -> Context:
        """The text or chat before the first choice, or everything that is scored."""
        context, continuation = self.pairs[0]
        return context or continuation


class RollingRequest(Record, tag_field="kind", tag="rolling"):
    """The log-likelihood of a whole text, read in as many windows as needed. Each token is scored once."""

    kind: ClassVar[str] = "rolling"
    text: str

    @property
    def context(self) -> Context:
        """Everything that is scored."""
        return self.text

    @property
    def pairs(self) -> list[tuple[Context, Context]]:
        """The text as the only choice."""
        return [("", self.text)]


ScoredRequest = ChoiceRequest | RollingRequest
"A request for log-likelihoods."

Request = GenerateRequest | ScoredRequest

KINDS: dict[str, type[Request]] = {kind.kind: kind for kind in (GenerateRequest, ChoiceRequest, RollingRequest)}
"The class of each kind: faster for reading than their union, which would be analysed for each request."
