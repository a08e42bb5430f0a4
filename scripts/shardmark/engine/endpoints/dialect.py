"""Fields of requests that some endpoints refuse, and equivalents.

A request that is refused because of a field is sent again without it, and so are all later ones, but only if that
changes no answer: OpenAI's reasoning models want max_completion_tokens, and OpenAI takes no more than four stop
strings, but answers are cut here in any case.
"""

import logging
import re
from typing import Any

from shardmark.engine.endpoints.client import Refused
from shardmark.engine.endpoints.failures import Failure

MOST_STOPS = 4
FIELDS = ("max_tokens", "stop", "seed", "top_p", "temperature")
REFUSALS = (400, 422)
"Statuses for a wrong field."
log = logging.getLogger(__name__)


class Dialect:
    """The form in which an endpoint wants its requests, as far as its refusals have shown."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}
        "The step of adaptation that each field has reached."

    def adapted(self, body: dict[str, Any]) -> dict[str, Any]:
        """A body in the form that the endpoint takes."""
        if not self._done:
            return body
        body = dict(body)
        if self._done.get("max_tokens"):
            body["max_completion_tokens"] = body.pop("max_tokens")
        if "stop" in body and (step := self._done.get("stop", 0)):
            body["stop"] = body["stop"][:MOST_STOPS] if step == 1 else []
            if not body["stop"]:
                del body["stop"]
        if self._done.get("seed"):
            body.pop("seed", None)
        for name in ("top_p", "temperature"):
            if self._done.get(name) and body.get(name) == 1:
                del body[name]
        return body

    def learns(self, refused: Refused) -> bool:
        """Whether a refusal is one that `adapted` now avoids."""
        failure, body = refused.failure, refused.body
        if refused.status not in REFUSALS:
            return False
        named = [(self._place(failure, name), name) for name in FIELDS if name in body]
        for _, name in sorted((place, name) for place, name in named if place >= 0):
            if step := self._next(name, body):
                if self._done.get(name, 0) < step:
                    self._done[name] = step
                    log.info("the endpoint refuses %s as it was sent (%s): trying another form", name, failure.message)
                return True
        return False

    def _next(self, name: str, body: dict[str, Any]) -> int:
        """The next step of adaptation for a refused field; 0 if that would change answers."""
        if name == "stop":
            return 1 if len(body["stop"]) > MOST_STOPS else 2
        return int(name in ("max_tokens", "seed") or body[name] == 1)

    @staticmethod
    def _place(failure: Failure, name: str) -> int:
        """Where a failure names a field: the first one is at fault. -1 if it does not name it."""
        if failure.parameter not in ("", name):
            return -1
        message = failure.message.partition("'input'")[0]  # which may be the whole request
        if name == "max_tokens":  # or its value is refused, and servers that don't know the other name would ignore it
            return message.find("max_completion_tokens")
        if failure.parameter:
            return 0
        found = re.search(rf"\b{name}\b", message)
        return found.start() if found else -1
