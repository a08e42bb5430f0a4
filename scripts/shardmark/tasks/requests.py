"""What a model is asked. A request knows nothing of the model, the data set or the row it came from.

Its id is the SHA-256 of its canonical JSON, so equal questions are asked once, and an answer is found again whatever
the data set or its file is called.
"""

from typing import Any, Literal, NotRequired, TypedDict

from shardmark.files import sha256


class GenerateRequest(TypedDict):
    """Continue `prompt` until one of `stop` appears or `max_new_tokens` are written.

    What has its default value is left out, so that a request keeps its id when there are new settings.
    """

    kind: Literal["generate"]
    prompt: str
    max_new_tokens: int
    stop: list[str]
    min_new_tokens: NotRequired[int]
    "No token that ends the text is written before so many; 0."
    temperature: NotRequired[float]
    "0 is greedy; 0."
    top_k: NotRequired[int]
    "Drawn from the so many likeliest tokens; 0 for all."
    top_p: NotRequired[float]
    "Drawn from the fewest likeliest tokens with this probability; 1."
    seed: NotRequired[int]
    "Only there to make another id: what is drawn depends on the id; 0."
    samples: NotRequired[int]
    "So many answers; 1."


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
