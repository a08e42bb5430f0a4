"""Errors that an endpoint reports, in all the forms that servers use."""

import re
from typing import Any, NamedTuple

from shardmark.engine.tokens import well_formed
from shardmark.records.base import Unreadable, parse

LOCATED = re.compile(r"'loc': (?:\('body', '(\w+)'|'body\.(\w+))")
"The wrong field in errors of pydantic that a server (vLLM) sends as a text; the whole request may follow as input."


class Failure(NamedTuple):
    """An error that an endpoint reports."""

    message: str
    code: str = ""
    parameter: str = ""
    "The field of the request that is wrong."
    status: int | None = None
    "The HTTP status that the body names."


def failure_of(content: bytes) -> Failure:
    """The error in the body of an answer, in any of the forms that servers use."""
    try:
        value = parse(content)
    except Unreadable:
        value = content.decode(errors="replace")
    return failure_in(value)


def failure_in(value: Any) -> Failure:
    """The error in the value of a body."""
    found = value = value[0] if isinstance(value, list) and value else value  # Gemini sends a list
    if isinstance(value, dict) and isinstance(details := value.get("detail"), list) and details:
        found = _first_detail(details[0])  # FastAPI's
        return found if found else Failure(str(details))
    for key in ("error", "detail", "message"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
            break
    if isinstance(found, dict):
        told = [found.get(name) for name in ("message", "code", "param", "type")]
        message, code, parameter = (str(part) if part is not None else "" for part in told[:3])
        parameter = _field(parameter) or _field("".join(next(iter(LOCATED.findall(message)), "")))
        kind = str(told[3]) if isinstance(told[3], str) else ""
        status = _status(found.get("code"))
        return Failure(message or str(found), code if status is None and code else kind, parameter, status)
    return Failure(str(found))


def _field(parameter: str) -> str:
    """The field of a request in a path such as body.stop.0."""
    return re.split(r"[.\[]", parameter.removeprefix("body."))[0]


def _first_detail(detail: Any) -> Failure | None:
    """The first wrong field of a request."""
    if not isinstance(detail, dict) or not isinstance(detail.get("loc"), list) or not detail["loc"]:
        return None
    field = next((part for part in detail["loc"] if isinstance(part, str) and part != "body"), "")
    message = f"{field}: {detail['msg']}".removeprefix(": ") if detail.get("msg") else str([detail])
    return Failure(message, str(detail.get("type") or ""), field)


def _status(code: Any) -> int | None:
    """The HTTP status that a code stands for; some endpoints write it as a text."""
    if code == "rate_limit_exceeded":
        return 429
    return int(code) if re.fullmatch("[45][0-9][0-9]", str(code)) else None


def shortened(text: str) -> str:
    """A message of an endpoint as one line of reasonable length."""
    return re.sub(r"\s+", " ", well_formed(text[:2000])).strip()[:500]
