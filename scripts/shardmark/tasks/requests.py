"""What a model is asked. A request knows nothing of the model, the data set or the row it came from.

Its id is the SHA-256 of its canonical JSON, so equal questions are asked once, and an answer is found again whatever
the data set or its file is called.
"""

from os.path import commonprefix
from typing import Any, Literal, NotRequired, TypedDict

from shardmark.files import sha256


class Message(TypedDict):
    """What someone says in a chat. Each model puts it into words of its own."""

    role: str
    content: str


Context = str | list[Message]
"A text, or a chat."


class GenerateRequest(TypedDict):
    """Continue `prompt`, or answer `messages`, until one of `stop` appears or `max_new_tokens` are written.

    What has its default value is left out, so that a request keeps its id when there are new settings.
    """

    kind: Literal["generate"]
    prompt: NotRequired[str]
    messages: NotRequired[list[Message]]
    "Instead of prompt. If the last one is the assistant's, it is continued."
    max_new_tokens: int
    stop: list[str]
    min_new_tokens: NotRequired[int]
    "The fewest tokens before one that ends the text; 0."
    temperature: NotRequired[float]
    "0 is greedy; 0."
    top_k: NotRequired[int]
    "How many of the likeliest tokens are drawn from; 0 for all."
    top_p: NotRequired[float]
    "Drawn from the fewest likeliest tokens with this probability; 1."
    seed: NotRequired[int]
    "Only there to make another id: what is drawn depends on the id; 0."
    samples: NotRequired[int]
    "How many answers; 1."


class ChoiceRequest(TypedDict):
    """The log-likelihood of each continuation given its context: `pairs` of (context, continuation).

    A context is a text or messages. An empty one stands for the start of a text: the whole continuation is scored,
    which then may be messages, too.
    """

    kind: Literal["choice"]
    pairs: list[list[Any]]


class RollingRequest(TypedDict):
    """The log-likelihood of a whole text, read in as many windows as it takes. Each token is scored once."""

    kind: Literal["rolling"]
    text: str


Request = GenerateRequest | ChoiceRequest | RollingRequest


def request_id(request: Request) -> str:
    """The SHA-256 of what the model is asked, as 64 hexadecimal digits."""
    return sha256(request)


def as_text(context: Context) -> str:
    """A context as people read it: each message under the name of its role."""
    if isinstance(context, str):
        return context
    return "\n".join(f"[{message['role']}]\n{message['content']}" for message in context)


def context_of(request: Any) -> Context:
    """What a model reads before it answers, of several pairs before the first; or the whole of what is scored."""
    if request["kind"] == "generate":
        return request["messages"] if "messages" in request else request["prompt"]
    if request["kind"] == "rolling":
        return request["text"]
    context, continuation = request["pairs"][0]
    return context or continuation


def is_chat(request: Any) -> bool:
    """Whether a model needs a chat template to be asked this."""
    return not isinstance(context_of(request), str)


def characters(request: Any) -> int:
    """Length of the text that a model reads for a request, the base of the cost estimate: what all choices begin with
    counts once."""
    texts = texts_of(request)
    shared = shared_characters(texts)
    return shared + sum(len(text) - shared for text in texts)


def shared_characters(texts: list[str]) -> int:
    """How many characters all texts begin with."""
    return len(commonprefix(texts))  # noqa: RUF071 - characters are what it is for here


def texts_of(request: Any) -> list[str]:
    """What a model reads for a request, a text for each choice; of a chat what is said, without its template."""
    if request["kind"] == "choice":
        return [_said(context) + _said(continuation) for context, continuation in request["pairs"]]
    return [_said(context_of(request))]


def _said(context: Context) -> str:
    return context if isinstance(context, str) else "".join(message["content"] for message in context)
