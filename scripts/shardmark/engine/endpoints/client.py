"""One request over HTTP, tried once, with the address and key that plan/endpoint_access.py gives."""

import asyncio
import email.utils
import logging
import math
import re
import time
from typing import Any

import httpx2
from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI

from shardmark.config.backends.openai import OpenaiConfig
from shardmark.engine.endpoints.failures import Failure, failure_of, shortened
from shardmark.plan.endpoint_access import Secrets, client_options, request_headers, trusts_proxies

MOST_BYTES = 64 << 20
"The most bytes of an answer's body."
POOL_SIZE = 16
CONNECT_SECONDS = 30.0
for _name in ("openai", "httpx2", "httpcore2"):  # they log each request, and its headers in debug mode
    logging.getLogger(_name).setLevel(logging.WARNING)


class Again(Exception):
    """A failed try after which another one may succeed."""

    def __init__(self, kind: str, what: str, after: float | None = None, billed: bool = False) -> None:
        """`kind` is limited, busy, down, lost, failed or malformed."""
        super().__init__(what)
        self.kind = kind
        self.after = after
        "Seconds that the endpoint asks to wait."
        self.billed = billed
        "Whether the endpoint may have answered, and charged for it."


class Refused(Exception):
    """A refusal that another try would not change."""

    def __init__(self, status: int, failure: Failure) -> None:
        super().__init__(failure.message)
        self.status, self.failure = status, failure
        self.body: dict[str, Any] = {}
        "The body of the request as it was sent."


class _Pools(httpx2.AsyncClient):
    """A client that bounds the size of a body, and spreads requests over as many connection pools as it takes.

    A pool looks at each of its connections with each request: with hundreds of them in one, that takes milliseconds.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options | {"verify": httpx2.create_ssl_context()}  # read once: it takes longer than requests
        super().__init__(**self._options)
        self._pools: list[httpx2.AsyncClient] = []
        self._loads: list[int] = []

    async def send(self, request: httpx2.Request, *, stream: bool = False, **more: Any) -> httpx2.Response:
        number = next((n for n, load in enumerate(self._loads) if load < POOL_SIZE), len(self._pools))
        if number == len(self._pools):
            self._pools.append(httpx2.AsyncClient(**self._options))
            self._loads.append(0)
        self._loads[number] += 1
        try:
            return await self._whole(self._pools[number], request, more)
        finally:
            self._loads[number] -= 1

    async def aclose(self) -> None:
        for pool in self._pools:
            await pool.aclose()
        await super().aclose()

    @staticmethod
    async def _whole(client: httpx2.AsyncClient, request: httpx2.Request, more: dict[str, Any]) -> httpx2.Response:
        response = await client.send(request, stream=True, **more)
        content = bytearray()
        try:
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MOST_BYTES:
                    raise Again("malformed", f"an answer of more than {MOST_BYTES >> 20} MB", billed=True)
        finally:
            await response.aclose()
        headers = {k: v for k, v in response.headers.items() if k not in ("content-encoding", "content-length")}
        return httpx2.Response(response.status_code, headers=headers, content=bytes(content), request=request)


class Client:
    """Sends requests to an endpoint. All of its calls belong to one event loop."""

    def __init__(self, settings: OpenaiConfig, secrets: Secrets) -> None:
        self._settings, self._secrets = settings, secrets
        self._path = "/chat/completions" if settings.api == "chat" else "/completions"
        timeout = httpx2.Timeout(settings.timeout, connect=min(CONNECT_SECONDS, settings.timeout))
        self._headers: dict[str, Any] = {"Content-Type": "application/json"} | request_headers(secrets)
        self._client = AsyncOpenAI(
            **client_options(settings, secrets),
            timeout=timeout,
            http_client=_Pools(
                timeout=timeout,
                trust_env=trusts_proxies(settings),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=4.0),
            ),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(self, body: bytes) -> bytes:
        """The body of the answer to a request's body. Raises Again or Refused."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                response = await self._client.post(
                    self._path,
                    content=body,
                    cast_to=httpx2.Response,
                    options={"headers": self._headers},
                )
            return self._secrets.hidden_in(response.content)
        except (TimeoutError, APITimeoutError) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                raise Again("down", "it refuses connections") from error
            raise Again("lost", f"no complete answer in {self._settings.timeout:g} s", billed=True) from error
        except APIStatusError as error:
            raise self._judged(error.response) from None
        except (APIConnectionError, httpx2.TransportError, httpx2.DecodingError) as error:
            cause = error.__cause__ or error
            text = self._secrets.hidden(f"{type(cause).__name__}: {cause}")[:300]
            down = isinstance(cause, httpx2.ConnectError)
            raise Again("down" if down else "lost", text, billed=not down) from None

    def _judged(self, response: httpx2.Response) -> Exception:
        failure = failure_of(self._secrets.hidden_in(response.content))
        if response.is_redirect and (location := response.headers.get("location")):
            failure = Failure(f"it redirects to {self._secrets.address(location)}")
        return self.judged(response.status_code, failure, retry_after(response.headers))

    def judged(self, status: int, failure: Failure, after: float | None = None) -> Exception:
        """The exception for an error of the endpoint."""
        message = shortened(self._secrets.hidden(failure.message))
        return judged(status, failure._replace(message=message), after)


BUSY = frozenset({502, 503, 520, 521, 522, 523, 525, 526, 527, 529})
"Statuses of an endpoint that is down or overloaded: it may be waited for."
OVERDUE = frozenset({408, 504, 524})
"Statuses of a gateway that did not wait for the answer, which may be charged for."
PASSING = frozenset({409, 425, 500})
"Other statuses after which another try may succeed. So may one after 429, unless the account is out of money."
PENNILESS = ("insufficient_quota", "billing_hard_limit_reached")
OVERSIZED = re.compile("request too large", re.IGNORECASE)
"Part of OpenAI's 429 for a request that alone exceeds the tokens of a minute: no wait helps."


def judged(status: int, failure: Failure, after: float | None = None) -> Exception:
    """The exception for an error of an endpoint."""
    what = f"HTTP {status}: {failure.message or 'no message'}"
    after = _told_wait(failure.message) if after is None else after
    if status == 429 and failure.code not in PENNILESS and not OVERSIZED.search(failure.message):
        return Again("limited", what, after)
    if status in BUSY:
        return Again("busy", what, after)
    if status in OVERDUE:
        return Again("lost", what, after, billed=True)
    if status in PASSING:
        return Again("failed", what, after)
    return Refused(status, failure)


TOLD_WAIT = re.compile(r"(?:try again|retry) in (?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(m?)s)?", re.IGNORECASE)
"A time to wait in a message, such as 7m12.5s or 350ms: Gemini gives no header."


def _told_wait(message: str) -> float | None:
    found = TOLD_WAIT.search(message)
    if not found or not any(found.groups()):
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups()[:3])
    return 3600 * hours + 60 * minutes + seconds * (1e-3 if found[4] else 1)


def retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds after which an endpoint asks for the next try; None if it does not say."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name, "")
        try:
            seconds = float(text) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    until, now = (email.utils.parsedate_tz(headers.get(name, "")) for name in ("retry-after", "date"))
    try:  # by the endpoint's clock if it says: this machine's may be wrong
        begin = email.utils.mktime_tz(now) if now else time.time()
        return max(0.0, email.utils.mktime_tz(until) - begin) if until else None
    except (OverflowError, ValueError):
        return None
