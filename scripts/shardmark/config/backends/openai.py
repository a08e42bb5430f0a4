"""Models behind an endpoint that speaks OpenAI's protocol: chat completions, or completions."""

import json
import re
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    model_validator,
)

from shardmark.config.model import KINDS
from shardmark.config.reasoning import EFFORTS, ReasoningBudget
from shardmark.config.secrets import KEY, OPEN, RANDOM, is_secret, texts_in
from shardmark.config.wording import TEMPLATE_DATE, WordedConfig
from shardmark.settings import AS_WRITTEN, Settings

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
REFERENCE = re.compile(rf"\$\{{({VARIABLE.pattern})\}}")
"An environment variable in a file: within a header's value, or as the whole of a text in extra_body."
WRITE_REFERENCE = "write ${NAME}, where NAME is an environment variable that holds it"
HEADER_NAME, HEADER_TEXT = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(r"[!-~]([ -~]*[!-~])?")
OWN_HEADERS = ("content-type", "content-length", "transfer-encoding", "connection")
LOOSE_REFERENCE = re.compile(rf"\$(?!\{{{VARIABLE.pattern}\}})(\{{|{VARIABLE.pattern})")
"Text that looks like an environment variable, but is not."
NEEDS_TOKENIZER = ("tokenizer_kwargs", "trust_remote_code")
NEEDS_TEMPLATE = ("chat_template_kwargs", "reasoning")
"Keys that pass something to a chat template."
MANY_TEXTS = "nothing: each answer is a request of its own, so that max_cost knows what it may cost"
LIMIT = "generation.max_new_tokens of the data set"
ROUTE = re.compile(r"(/chat|/embeddings|/models|/responses|(/chat)?/completions)/*$")
SET_HERE = {
    "model": "model",
    "messages": "the data set",
    "prompt": "the data set",
    "stream": "nothing: answers are not streamed",
    "n": "samples of the data set's generation",
    "stop": "generation.stop of the data set",
    "best_of": MANY_TEXTS,
    "candidate_count": MANY_TEXTS,
    "max_tokens": LIMIT,
    "max_completion_tokens": LIMIT,
    "max_new_tokens": LIMIT,
    "max_output_tokens": LIMIT,
    "n_predict": LIMIT,
    "temperature": "generation.temperature of the data set",
    "top_p": "generation.top_p of the data set",
    "top_k": "generation.top_k of the data set",
    "min_tokens": "generation.min_new_tokens of the data set",
    "seed": "the request: it follows from the data set's seed and the number of the sample",
    "echo": "the kind of the data set",
    "logprobs": "the kind of the data set",
    "prompt_logprobs": "the kind of the data set",
    "reasoning_effort": "reasoning",
    "continue_final_message": "continue_final_message",
    "add_generation_prompt": "continue_final_message",
    "truncate_prompt_tokens": "max_seq_len",
    "stream_options": "nothing: answers are not streamed",
}
"Fields of a request that cannot be in `extra_body`, and the settings that set them."


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an address such as https://api.example.org/v1")
    if parts.username or parts.password:
        raise ValueError("contains a password: put it into an environment variable and name that as api_key_env")
    try:
        usable = parts.port != 0 and not re.search(r"[\s\x00-\x1f]", text)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("contains a blank or an invalid port")
    if parts.fragment:
        raise ValueError("must end with its path or query: drop everything from #")
    if KEY.search(f"?{parts.query}") or RANDOM.search(parts.query):
        raise ValueError("its query seems to hold a key: send it as a header, ${NAME}, or as api_key_env")
    if len(given := parse_qsl(parts.query, keep_blank_values=True)) > len(dict(given)):
        raise ValueError("its query gives a key twice: keep one")
    if route := ROUTE.search(parts.path):
        raise ValueError(f"ends with a route: drop {route[0]}, which requests add")
    if parts.query:
        return parts._replace(path=parts.path.rstrip("/")).geturl()
    return text.rstrip("/")  # the plan finds out whether it lacks a version


def _variable(text: str) -> str:
    if not VARIABLE.fullmatch(text) or KEY.search(text):
        raise ValueError("give the name of an environment variable that holds the key, never the key")
    return text


class Price(Settings):
    """The price of tokens, in any currency: the report names none."""

    input: NonNegativeFloat
    "Price of a million tokens of prompts."
    output: NonNegativeFloat
    "Price of a million tokens of answers, thoughts included."


class OpenaiConfig(WordedConfig):
    """A model behind an endpoint. The file's name is the model's name."""

    factory: ClassVar[str] = "shardmark.engine.endpoints.backend:open_backend"
    protocol: ClassVar[int] = 1
    elsewhere: ClassVar[bool] = True

    backend: Literal["openai"] = "openai"
    "The backend that runs the model."
    base_url: Annotated[str, AfterValidator(_address)]
    "The endpoint's address up to its version, such as https://api.example.org/v1; a query goes with each request."
    model: str = Field(min_length=1)
    "The endpoint's name for the model."
    api: Literal["chat", "completions"] = "chat"
    "chat asks /chat/completions; completions asks /completions, worded (and tokenized) on this side."
    api_key_env: Annotated[str, AfterValidator(_variable)] | None = None
    "The environment variable that holds the key; null if the endpoint needs none. The key itself is never written."
    snapshot: str | None = None
    "Any text, such as 2026-11. Changing it asks everything again: endpoints may serve another model by the same name."
    concurrency: PositiveInt | None = None
    "Requests in flight at once, over all jobs of this results folder; null adapts to what the endpoint accepts."
    requests_per_minute: PositiveFloat | None = None
    "The most requests per minute, over all jobs of this results folder."
    tokens_per_minute: PositiveInt | None = None
    "The most tokens per minute, of prompts and answers, over all jobs of this results folder."
    timeout: PositiveFloat = 600
    "Seconds to wait for an answer before asking again."
    headers: dict[str, str] = Field(default={})
    "HTTP headers of each request, which change no answer; ${NAME} stands for an environment variable."
    answer_headers: dict[str, str] = Field(default={})
    "More such headers, which change answers: new ones ask everything again."
    extra_body: dict[str, Any] = Field(default={})
    "More fields of each request, such as {chat_template_kwargs: {enable_thinking: false}}; they change answers."
    continue_final_message: bool = False
    "Whether the endpoint can continue an answer that the data set begins; two fields that vLLM knows tell it to."
    price: Price | None = None
    "The price of tokens: for the dry run, for max_cost and for the report."
    num_gpus: int = 0
    "Always 0, as the model runs elsewhere."
    cpus: PositiveInt = 1
    "Cores per job; most of the time it waits for answers."

    @property
    def place(self) -> str:
        """The model's name and its address."""
        return f"{self.model} at {self.base_url}"

    @property
    def all_headers(self) -> list[tuple[str, str, str]]:
        """The headers of each request: the key in the file, the name and the value."""
        keys = {"headers": self.headers, "answer_headers": self.answer_headers}
        return [(f"{key}.{name}", name, text) for key, headers in keys.items() for name, text in headers.items()]

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of requests; log-likelihoods need an endpoint that tokenizes as this side does."""
        return KINDS if self.api == "completions" and self.tokenizer_path else frozenset({"generate"})

    @property
    def asks_chats(self) -> bool:
        """Whether everything is asked in chats because the endpoint accepts nothing else."""
        return self.api == "chat"

    def identity(self) -> dict[str, Any]:
        """The settings that can change an answer, which pace and price cannot."""
        names = ("base_url", "model", "api", "snapshot", "extra_body", "continue_final_message")
        found = super().identity() | {name: getattr(self, name) for name in names}
        if self.answer_headers:  # only where there are any, so that other digests stay
            found["answer_headers"] = {name.lower(): text for name, text in self.answer_headers.items()}
        return found

    @model_validator(mode="after")
    def _fits(self, info: ValidationInfo) -> Self:
        if info.context == AS_WRITTEN:
            return self
        if self.num_gpus:
            raise ValueError("num_gpus has no effect: the model runs at the endpoint and uses no GPU here: drop it")
        if self.slurm.model_fields_set:
            raise ValueError("slurm has no effect: the model's jobs run where Snakemake does: drop it")
        if self.template_date != TEMPLATE_DATE and not self.tokenizer_path:
            raise ValueError("template_date has no effect: no chat template is rendered here")
        self._check_headers()
        try:
            json.dumps(self.extra_body, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"extra_body: not valid JSON: {error}") from None
        if given := sorted(SET_HERE.keys() & self.extra_body.keys()):
            raise ValueError(f"extra_body.{given[0]} is set by {SET_HERE[given[0]]}: drop it")
        for path, name, text in texts_in(self.extra_body):
            if is_secret(name, text) and not REFERENCE.fullmatch(text):
                raise ValueError(f"extra_body.{path} {OPEN}: {WRITE_REFERENCE}")
        if isinstance(self.reasoning, ReasoningBudget):
            fix = "give extra_body the field for it that the endpoint documents, and reasoning_tokens"
            raise ValueError(f"reasoning: endpoints do not support a budget: {fix}")
        if self.api == "chat":
            self._check_chat()
        else:
            self._check_completions()
        return self

    def package_names(self) -> list[str]:
        """The packages of the client."""
        return ["openai", "httpx2"]

    def _check_headers(self) -> None:
        """Raise ValueError for headers that cannot be sent, that are set elsewhere, or that contain a key."""
        if twice := sorted({*map(str.lower, self.headers)} & {*map(str.lower, self.answer_headers)}):
            raise ValueError(f"{twice[0]} is in both headers and answer_headers: keep one")
        for key, name, text in self.all_headers:
            if not HEADER_NAME.fullmatch(name) or not HEADER_TEXT.fullmatch(text):
                raise ValueError(f"{key!r}: not a valid name or value of a header")
            if name.lower() in OWN_HEADERS:
                raise ValueError(f"{key} is set by the request itself: drop it")
            if name.lower() == "authorization" and self.api_key_env:
                raise ValueError(f"{key}: api_key_env sets it, too: keep one")
            if LOOSE_REFERENCE.search(text):
                raise ValueError(f"{key}: write ${{NAME}} for an environment variable")
            written = REFERENCE.sub("", text)
            if KEY.search(written) or RANDOM.search(written) or (written == text and is_secret(name, text)):
                raise ValueError(f"{key} {OPEN}: {WRITE_REFERENCE}")

    def _check_completions(self) -> None:
        """Raise ValueError for settings that have no effect with an endpoint for texts."""
        if self.continue_final_message:
            raise ValueError("continue_final_message has no effect: with api: completions, prompts are rendered here")
        if self.tokenizer_path:
            return
        idle = [*NEEDS_TOKENIZER, *([] if self.meta_template else NEEDS_TEMPLATE)]  # with one, another check tells
        for key in idle:
            if getattr(self, key):
                raise ValueError(f"{key} has no effect: with api: completions, it needs a tokenizer_path")

    def _check_chat(self) -> None:
        """Raise ValueError for settings that have no effect with an endpoint for chats."""
        if self.reasoning is not None and self.reasoning not in EFFORTS:
            raise ValueError(f"reasoning: endpoints do not support {self.reasoning}: give one of {', '.join(EFFORTS)}")
        if self.apply_chat_template is False:
            raise ValueError("apply_chat_template is false, but api: chat accepts only chats: change one of them")
        for key in ("tokenizer_path", "meta_template", *NEEDS_TOKENIZER, "chat_template_kwargs"):
            if getattr(self, key):
                raise ValueError(f"{key} has no effect: with api: chat, the endpoint renders chats")


SETTINGS = OpenaiConfig
