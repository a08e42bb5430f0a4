"""What a model is asked. A request knows nothing of the model, the data set or the row it came from."""

from typing import ClassVar

from shardmark.records.base import Record, Sparse


class Message(Record, gc=False):
    """What someone says in a chat. Each model puts it into words of its own."""

    role: str
    content: str


class ChatShape(Record):
    """What of a chat decides whether a model's template takes it."""

    roles: tuple[str, ...]
    is_open: bool
    "Whether the model is to go on, and does not score the chat as a whole."
    begun: str = ""
    "The beginning of the answer, where the assistant speaks last."


Context = str | list[Message]
"A text, or a chat."


class GenerateRequest(Sparse, tag_field="kind", tag="generate"):
    """Continue `prompt`, or answer `messages`, until one of `stop` appears or `max_new_tokens` are written.

    What has its default value is left out, so that a request keeps its id when there are new settings.
    """

    kind: ClassVar[str] = "generate"
    max_new_tokens: int
    stop: list[str]
    prompt: str | None = None
    messages: list[Message] | None = None
    "Instead of prompt. If the last one is the assistant's, it is continued."
    min_new_tokens: int = 0
    "No token that ends the text is written before this many."
    temperature: float = 0.0
    "0 is greedy."
    top_k: int = 0
    "Drawn from this many of the likeliest tokens; 0 for all."
    top_p: float = 1.0
    "Drawn from the fewest likeliest tokens with this probability."
    seed: int = 0
    "Only there to make another id: what is drawn depends on the id."
    samples: int = 1
    "How many answers."

    def __post_init__(self) -> None:
        Sparse.__post_init__(self)
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("a request to generate has either a prompt or messages")

    @property
    def context(self) -> Context:
        """What a model reads before it answers."""
        return self.messages if self.messages is not None else self.prompt or ""


class ChoiceRequest(Record, tag_field="kind", tag="choice"):
    """The log-likelihood of each continuation given its context: `pairs` of (context, continuation).

    An empty context stands for the start of a text: the whole continuation is scored, which then may be messages, too.
    """

    kind: ClassVar[str] = "choice"
    pairs: list[tuple[Context, Context]]

    @property
    def context(self) -> Context:
        """What a model reads before the first choice; or the whole of what is scored."""
        context, continuation = self.pairs[0]
        return context or continuation


class RollingRequest(Record, tag_field="kind", tag="rolling"):
    """The log-likelihood of a whole text, read in as many windows as it takes. Each token is scored once."""

    kind: ClassVar[str] = "rolling"
    text: str

    @property
    def context(self) -> Context:
        """The whole of what is scored."""
        return self.text

    @property
    def pairs(self) -> list[tuple[Context, Context]]:
        """The text as the only choice."""
        return [("", self.text)]


ScoredRequest = ChoiceRequest | RollingRequest
"A request for log-likelihoods."

Request = GenerateRequest | ScoredRequest

KINDS: dict[str, type[Request]] = {kind.kind: kind for kind in (GenerateRequest, ChoiceRequest, RollingRequest)}
"The class of each kind: quicker to read with than their union, where that would be taken apart for each request."
