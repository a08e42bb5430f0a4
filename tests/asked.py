"""Requests made by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from shardmark.files import json_line
from shardmark.records.base import to_json
from shardmark.records.request import ChoiceRequest, Context, GenerateRequest, Message, Request, RollingRequest
from shardmark.tasks import request_id


def generate(prompt: str, new: int = 8, stop: Sequence[str] = (), **more: Any) -> GenerateRequest:
    settings: dict[str, Any] = {"max_new_tokens": new, "stop": list(stop), **more}
    return GenerateRequest(prompt=prompt, **settings)


def chat(*turns: tuple[str, str], new: int = 8, stop: Sequence[str] = ()) -> GenerateRequest:
    """A chat of (role, content)."""
    return GenerateRequest(messages=said(*turns), max_new_tokens=new, stop=list(stop))


def said(*turns: tuple[str, str]) -> list[Message]:
    return [Message(role=role, content=content) for role, content in turns]


def choice(*pairs: tuple[Context, Context]) -> ChoiceRequest:
    return ChoiceRequest(pairs=list(pairs))


def rolling(text: str) -> RollingRequest:
    return RollingRequest(text=text)


def by_id(requests: Sequence[Any]) -> dict[str, Any]:
    return {request_id(request): request for request in requests}


def line(key: str, request: Request) -> str:
    """The request's line in a request file."""
    return json_line({"id": key, **to_json(request)})


def lines(requests: Mapping[str, Request]) -> str:
    """A request file's text."""
    return "".join(line(key, request) for key, request in requests.items())
