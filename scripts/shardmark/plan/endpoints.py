"""Checks of endpoints before the run: whether they answer and accept the requests, and the most that these cost."""

import os
import re
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from shardmark.config.backends.openai import OpenaiConfig
from shardmark.errors import Problem, UserError, collecting, nearest
from shardmark.plan.cost import CHARACTERS_PER_TOKEN
from shardmark.plan.endpoint_access import Secrets, client_options, read_secrets, request_headers, trusts_proxies
from shardmark.records.base import parse
from shardmark.records.dataset import DatasetRecord
from shardmark.records.model import ModelRecord
from shardmark.records.request import GenerateRequest, Request
from shardmark.store.requests import read_requests
from shardmark.tasks.requests import texts_of

if TYPE_CHECKING:
    from openai import OpenAI

MAX_COST = "SHARDMARK_MAX_COST"
"The environment variable with the most that this run may spend; workers inherit it."
SECONDS, MOST_BYTES = 10.0, 16 << 20
"Seconds that an endpoint may take to list its models, and the most bytes of the list."
A_TEXT = "api: chat accepts only chats, but these data sets are asked as texts: {}"
NO_WORDS = "api: completions accepts only texts, but these data sets are asked in chats: {}"
BEGUN = "these data sets begin the answer, which the endpoint must continue: {}"


VERSIONS = re.compile(r"beta|version|feature|preview|experiment", re.IGNORECASE)
"Names of headers that may change answers."


NETWORK = re.compile(r"(ALL|HTTPS?|NO)_PROXY|SSL_CERT_(FILE|DIR)", re.IGNORECASE)
"The environment's variables for connections."


class Bill(NamedTuple):
    """The most that some requests take from an endpoint; tokens are estimated from characters."""

    requests: int
    "Requests over HTTP: one for each sample of an answer, and one for each choice."
    read: int
    written: int
    money: float | None
    "In the currency of the model's price; None if its file has none."
    least_seconds: float
    "The time that the limits of a minute in the model's file require, even if answers have no tokens."

    def __str__(self) -> str:
        tokens = f"{self.requests:,} requests, about {self.read:,} tokens to read, at most {self.written:,} to write"
        if self.money is None:
            return tokens
        return f"{tokens}, at most about {self.money:{',.2f' if self.money >= 0.01 else '.2g'}} in its currency"


def bill_of(settings: OpenaiConfig, shards: Iterable[tuple[Path, float]]) -> Bill:
    """The bill for shards: the requests of each, and the fraction of them that has no answer yet."""
    requests, read, written = 0, 0.0, 0.0
    for path, share in shards:
        asked = [_tokens(request, settings) for request in read_requests(path).values()]
        requests += round(sum(times for times, _, _ in asked) * share)
        read += sum(times * prompt for times, prompt, _ in asked) * share
        written += sum(times * answer for times, _, answer in asked) * share
    price = settings.price
    money = (read * price.input + written * price.output) / 1e6 if price else None
    limited = ((requests, settings.requests_per_minute), (read, settings.tokens_per_minute))
    minutes = max(amount / limit if limit else 0.0 for amount, limit in limited)
    return Bill(requests, round(read), round(written), money, 60 * minutes)


def _tokens(request: Request, settings: OpenaiConfig) -> tuple[int, float, int]:
    """The number of HTTP requests for a request, and the tokens of each to read (their mean) and to write."""
    texts = texts_of(request)
    read = sum(map(len, texts)) / len(texts) / CHARACTERS_PER_TOKEN
    if not isinstance(request, GenerateRequest):
        return len(texts), read, 1
    return request.samples, read, settings.answer_tokens(request.max_new_tokens) + settings.thought_tokens


def together(one: Bill, other: Bill) -> Bill:
    """One bill for the requests of both, of the same model."""
    money = None if one.money is None or other.money is None else one.money + other.money
    seconds = one.least_seconds + other.least_seconds
    return Bill(one.requests + other.requests, one.read + other.read, one.written + other.written, money, seconds)


def endpoint_problems(model: ModelRecord, datasets: Iterable[DatasetRecord], has_limit: bool) -> list[Problem]:
    """Problems with asking data sets of a model behind an endpoint; `has_limit`: the run's spending is limited."""
    settings = model.settings
    if not isinstance(settings, OpenaiConfig):
        return []
    problems: list[Problem] = []
    with collecting(problems):
        read_secrets(settings, model.file)
    if has_limit and not settings.price:
        fix = "add price: {input: ..., output: ...} per million tokens, or drop max_cost"
        problems.append(Problem(model.file, "price", "is required for max_cost", fix))
    return problems + list(_wording_problems(model, settings, list(datasets)))


def endpoint_notes(model: ModelRecord) -> list[Problem]:
    """Notes for the user on a model behind an endpoint before it is asked."""
    settings = model.settings
    if not isinstance(settings, OpenaiConfig):
        return []
    notes = []
    if settings.max_seq_len and not settings.tokenizer_path:
        what = f"model {model.name}: no prompt is truncated to fit, since none is tokenized here"
        fix = (
            "set api: completions and a tokenizer_path, or drop it and let the endpoint refuse what is too long; "
            "either asks everything again"
        )
        notes.append(Problem(model.file, "max_seq_len", what, fix))
    for name in filter(VERSIONS.search, settings.headers):
        what = f"model {model.name}: if this header changes answers, a new value would not ask again"
        notes.append(Problem(model.file, f"headers.{name}", what, "move it to answer_headers, which count, if it does"))
    return notes


def _wording_problems(model: ModelRecord, settings: OpenaiConfig, datasets: list[DatasetRecord]) -> Iterator[Problem]:
    texts = [dataset.name for dataset in datasets if not dataset.is_chat and dataset.kind in ("generate", "mixed")]
    chats = [dataset.name for dataset in datasets if dataset.is_chat]
    if settings.api == "chat" and texts:
        fix = "drop apply_chat_template: false from the run or their files, or set api: completions"
        yield Problem(model.file, "api", A_TEXT.format(", ".join(texts)), fix)
    if settings.api == "completions" and chats and not (settings.tokenizer_path or settings.meta_template):
        fix = "add a tokenizer_path, whose chat template then renders them here, or a meta_template, or set api: chat"
        yield Problem(model.file, "api", NO_WORDS.format(", ".join(chats)), fix)
    scored = [dataset.name for dataset in datasets if dataset.kind != "generate"]
    if settings.kinds > {"generate"} and scored and not settings.max_seq_len:
        what = f"log-likelihoods of these data sets need the endpoint's window: {', '.join(scored)}"
        yield Problem(
            model.file,
            "max_seq_len",
            what,
            "add it: the most tokens of prompt and answer together (vLLM's --max-model-len)",
        )
    begun = [dataset.name for dataset in datasets if any(shape.begun for shape in dataset.chats)]
    if settings.api == "chat" and begun and not settings.continue_final_message:
        fix = "set continue_final_message: true if it can (vLLM and SGLang can), or leave these data sets out"
        yield Problem(model.file, "continue_final_message", BEGUN.format(", ".join(begun)), fix)


def answer_problems(model: ModelRecord) -> list[Problem]:
    """Problems that an endpoint reports before the first request: a refused key, or an unknown address or model.

    An endpoint that is only busy is no problem: the run waits for it later.
    """
    settings = model.settings
    if not isinstance(settings, OpenaiConfig):
        return []
    problems: list[Problem] = []
    with suppress(UserError):  # keys that are missing are reported already
        secrets = read_secrets(settings, model.file)
        with collecting(problems), _client(model, settings, secrets) as (client, headers):
            problems += _listed_problems(model, settings, client, headers)
    return problems


@contextmanager
def _client(model: ModelRecord, settings: OpenaiConfig, secrets: Secrets) -> Iterator[tuple["OpenAI", dict[str, Any]]]:
    """A client for a request or two, and the headers of each. Raises UserError if the environment allows none."""
    import httpx2
    from openai import OpenAI

    class Bounded(httpx2.Client):
        """A client that reads only so much of an answer."""

        def send(self, request: httpx2.Request, *, stream: bool = False, **more: Any) -> httpx2.Response:
            response = super().send(request, stream=True, **more)
            with closing(response):
                content = b"".join(_first_chunks(response.iter_bytes()))
            kept = {"location": response.headers.get("location", "")}
            return httpx2.Response(response.status_code, headers=kept, content=content, request=request)

    try:  # certificates count everywhere, as in jobs
        verify = httpx2.create_ssl_context()
        connections = Bounded(verify=verify, trust_env=trusts_proxies(settings), timeout=SECONDS)
    except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:  # its text may have a proxy's password
        names = ", ".join(name for name in os.environ if NETWORK.fullmatch(name))
        fix = "pip install socksio, for SOCKS, or unset" if isinstance(error, ImportError) else "correct or unset"
        what = f"the environment's proxies or certificates cannot be used ({type(error).__name__})"
        raise UserError(_refused(model, "base_url", what, f"{fix} {names}")) from error
    with connections:
        options = client_options(settings, secrets)
        yield OpenAI(**options, timeout=SECONDS, http_client=connections), request_headers(secrets)


def _first_chunks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks that come within SECONDS and MOST_BYTES: an endless answer would hold up the plan."""
    deadline, left = time.monotonic() + SECONDS, MOST_BYTES
    for chunk in chunks:
        yield chunk
        left -= len(chunk)
        if left < 0 or time.monotonic() > deadline:
            return


def _listed_problems(
    model: ModelRecord, settings: OpenaiConfig, client: "OpenAI", headers: dict[str, Any]
) -> list[Problem]:
    """Problems from an endpoint's list of models."""
    import httpx2
    import openai

    try:
        response = client.get("/models", cast_to=httpx2.Response, options={"headers": headers})
        found, is_whole = _models_in(response.content)
    except openai.AuthenticationError as error:
        key = "api_key_env" if settings.api_key_env else "base_url"
        fix = "put a valid key into that variable" if settings.api_key_env else "add api_key_env"
        return [_refused(model, key, f"it refuses the key (status {error.status_code})", fix)]
    except (openai.NotFoundError, openai.PermissionDeniedError):
        return _route_problems(model, settings, client, headers)  # some have no list of models, or keep it from a key
    except openai.APIConnectionError as error:
        if isinstance(error.__cause__, httpx2.ReadTimeout):
            return []  # it is slow, or still loading the model
        return [_refused(model, "base_url", *_unreachable(error))]
    except openai.APIStatusError as error:
        return _route_problems(model, settings, client, headers) if error.response.is_redirect else []
    except (ValueError, openai.OpenAIError):
        return [_refused(model, "base_url", "its /models lists no models", "correct the address: it ends in /v1")]
    listed = [str(each["id"]) for each in found]
    if listed and is_whole and not _is_listed(settings.model, listed):
        what = f"it does not serve {settings.model!r}"
        return [_refused(model, "model", what, nearest(settings.model, listed))]
    windows = [each.get("max_model_len") for each in found if each["id"] == settings.model]
    for window in windows:  # vLLM and SGLang report it
        if isinstance(window, int) and 0 < window < (settings.max_seq_len or 0):
            what = f"its window is {window:,} tokens, not {settings.max_seq_len:,}"
            return [_refused(model, "max_seq_len", what, f"give {window}, or start the server with a longer one")]
    return []


def _unreachable(error: BaseException) -> tuple[str, str]:
    """Why an endpoint cannot be reached, and the fix; the errors' own texts may have a proxy's password."""
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            fix = "set SSL_CERT_FILE to a file with the certificate, or its authority's, or correct the address"
            return f"its certificate is not trusted ({cause.verify_message})", fix
        if isinstance(cause, ssl.SSLError):
            return f"it cannot be reached over TLS ({cause.reason})", "correct the address: does it begin with http://?"
    what = f"it cannot be reached ({type(error.__cause__ or error).__name__})"
    return what, "start it, or correct the address or the proxy's variables"


def _models_in(content: bytes) -> tuple[list[dict[str, Any]], bool]:
    """The models in an endpoint's list, and whether these are all; some send the list alone. Raises ValueError."""
    value = parse(content)
    entries = value if isinstance(value, list) else value.get("data") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is no list of models")
    named = [each for each in entries if isinstance(each, dict) and isinstance(each.get("id"), str)]
    return named, len(named) == len(entries) and not (isinstance(value, dict) and value.get("has_more"))


def _is_listed(name: str, listed: list[str]) -> bool:
    """Whether an endpoint lists a model, perhaps without the suffix of a variant or with a prefix."""
    return not {name, name.rpartition(":")[0], f"models/{name}"}.isdisjoint(listed)


def _route_problems(
    model: ModelRecord, settings: OpenaiConfig, client: "OpenAI", headers: dict[str, Any]
) -> list[Problem]:
    """Problems of an endpoint without a list of models. It is sent an empty request, which is refused at once."""
    import openai

    route = "/chat/completions" if settings.api == "chat" else "/completions"
    try:
        client.post(route, cast_to=object, body={}, options={"headers": headers})
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        return [_refused(model, "api_key_env", f"it refuses the key (status {error.status_code})", "correct the key")]
    except openai.NotFoundError:
        fix = "correct the address (it ends in /v1), or use the other api"
        return [_refused(model, "base_url", f"it has neither /models nor {route}", fix)]
    except openai.APIStatusError as error:
        if error.response.is_redirect:
            what = f"it redirects to {read_secrets(settings, model.file).address(error.response.headers['location'])}"
            return [_refused(model, "base_url", what, f"give that address, without {route}")]
    except openai.OpenAIError:
        pass
    return []


def _refused(model: ModelRecord, key: str, what: str, fix: str) -> Problem:
    address = model.settings.place.rpartition(" ")[2]
    if key == "base_url" and not (parts := urlsplit(address)).path:
        fix = f"is it {parts._replace(path='/v1').geturl()}? If not, {fix}"
    return Problem(model.file, key, f"the endpoint {address}: {what}", fix)


def use_max_cost(config: dict[str, Any]) -> None:
    """Tell workers, which inherit this environment, the most that the run may spend."""
    os.environ.pop(MAX_COST, None)
    if config.get("max_cost"):
        os.environ[MAX_COST] = str(config["max_cost"])
