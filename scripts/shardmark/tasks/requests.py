"""Values computed from a request: its id, and the texts that a model reads for it.

The id is the SHA-256 of its canonical JSON, so equal questions are asked once, and an answer is found again whatever
the name of the data set or its file.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from shardmark.files import json_line, sha256
from shardmark.records.base import to_json
from shardmark.records.request import (
    ChatShape,
    ChoiceRequest,
    Context,
    GenerateRequest,
    Message,
    Request,
)

_PLAIN, _SORTED = msgspec.json.Encoder(), msgspec.json.Encoder(order="sorted")


def request_id(request: Request) -> str:
    """The SHA-256 of the request, as 64 hexadecimal digits."""
    text = _encoded(request, _SORTED)
    return hashlib.sha256(text).hexdigest() if text else sha256(to_json(request))


def request_line(name: str, request: Request) -> bytes:
    """The line of a request file for a request, whose id is `name`."""
    if text := _encoded(request, _PLAIN):
        return msgspec.json.format(b'{"id":"%b",%b' % (name.encode(), text[1:]), indent=0) + b"\n"
    return json_line({"id": name, **to_json(request)}).encode()


def _encoded(request: Request, encoder: msgspec.json.Encoder) -> bytes | None:
    """A request's JSON by msgspec, in a quarter of json's time; None if json would write it differently."""
    if isinstance(request, GenerateRequest):  # it has numbers
        return None
    try:
        text = encoder.encode(request)
    except UnicodeEncodeError:  # a lone surrogate
        return None
    return text if text.isascii() and b"\x7f" not in text else None


def as_text(context: Context) -> str:
    """A context for people to read: each message under the name of its role."""
    if isinstance(context, str):
        return context
    return "\n".join(f"[{message.role}]\n{message.content}" for message in context)


def is_chat(request: Request) -> bool:
    """Whether a model needs a chat template for this request."""
    return not isinstance(request.context, str)


class Chat(NamedTuple):
    """A chat in a request."""

    messages: list[Message]
    is_open: bool
    "Whether the model is to continue the chat; otherwise it scores the chat as a whole."

    @property
    def shape(self) -> ChatShape:
        """The properties that decide whether a model's template accepts it."""
        said = without_empty_answer(self.messages) if self.is_open else self.messages
        begun = said[-1].content if self.is_open and said[-1].role == "assistant" else ""
        return ChatShape(roles=tuple(message.role for message in said), is_open=self.is_open, begun=begun)


def without_empty_answer(messages: Sequence[Message]) -> list[Message]:
    """The messages without an empty beginning of the answer: the template opens the answer itself."""
    last = messages[-1]
    ends_empty = last.role == "assistant" and not last.content.strip() and len(messages) > 1
    return list(messages[:-1] if ends_empty else messages)


def chats_of(request: Request) -> Iterator[Chat]:
    """The chats that a model reads for a request."""
    pairs = [(request.context, "")] if isinstance(request, GenerateRequest) else request.pairs
    for context, continuation in pairs:
        if context and not isinstance(context, str):
            yield Chat(context, is_open=True)
        if not isinstance(continuation, str):
            yield Chat(continuation, is_open=False)


def characters(request: Request) -> int:
    """Length of the text that a model reads for a request, the base of the cost estimate.

    A common beginning of all choices counts once.
    """
    before, pairs = 0, request.pairs if isinstance(request, ChoiceRequest) else []
    if pairs and [context for context, _ in pairs] == [pairs[0][0]] * len(pairs):
        before = len(_said(pairs[0][0]))  # nearly always, and continuations are short
        texts = [_said(continuation) for _, continuation in pairs]
    else:
        texts = texts_of(request)
    return before + sum(map(len, texts)) - shared_characters(texts) * (len(texts) - 1)


def shared_characters(texts: list[str]) -> int:
    """The number of characters that all texts begin with."""
    return shared_length(min(texts, default=""), max(texts, default=""))


def shared_length(one: Sequence[Any], other: Sequence[Any]) -> int:
    """The length of what two texts, or rows of tokens, share at the start.

    By bisection, because slices compare at the speed of C.
    """
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def texts_of(request: Request) -> list[str]:
    """The texts that a model reads for a request, one per choice; of a chat, its messages without the template."""
    if isinstance(request, ChoiceRequest):
        return [_said(context) + _said(continuation) for context, continuation in request.pairs]
    return [_said(request.context)]


def _said(context: Context) -> str:
    return context if isinstance(context, str) else "".join(message.content for message in context)
