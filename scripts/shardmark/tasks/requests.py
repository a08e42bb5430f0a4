"""What a model is asked. A request knows nothing of the model, the data set or the row it came from.

Its id is the SHA-256 of its canonical JSON, so equal questions are asked once, and an answer is found again whatever
the data set or its file is called.
"""

from typing import Any, Literal, TypedDict

from shardmark.files import sha256


class GenerateRequest(TypedDict):
    """Continue `prompt`, greedily, until one of `stop` appears or `max_new_tokens` are written."""

    kind: Literal["generate"]
    prompt: str
    max_new_tokens: int
    stop: list[str]


class ChoiceRequest(TypedDict):
    """The log-likelihood of each continuation given its context: `pairs` of (context, continuation).

    An empty context stands for the start of a text: the whole continuation is scored.
    """

    kind: Literal["choice"]
    pairs: list[list[str]]


Request = GenerateRequest | ChoiceRequest


def request_id(request: Request) -> str:
    """The SHA-256 of what the model is asked, as 64 hexadecimal digits."""
    return sha256(request)


def characters(request: Any) -> int:
    """Length of all the text in a request, the base of the cost estimate."""
    if request["kind"] == "generate":
        return len(request["prompt"])
    return sum(len(context) + len(continuation) for context, continuation in request["pairs"])
