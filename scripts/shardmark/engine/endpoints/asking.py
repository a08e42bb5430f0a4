"""One question, asked until it is answered: a permit for each try, and retries after temporary failures only."""

import asyncio
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from shardmark.config.backends.openai import OpenaiConfig, Price
from shardmark.config.reasoning import EFFORT
from shardmark.engine.endpoints.answers import (
    Malformed,
    NoLogprobs,
    Reply,
    Unfit,
    Usage,
    read_answer,
    token_texts,
)
from shardmark.engine.endpoints.client import PENNILESS, Again, Client, Refused
from shardmark.engine.endpoints.dialect import REFUSALS, Dialect
from shardmark.engine.endpoints.failures import Failure
from shardmark.engine.endpoints.pace import LIMITED, OK, TROUBLE
from shardmark.engine.endpoints.permits import Permits
from shardmark.engine.endpoints.questions import Question
from shardmark.plan.endpoint_access import Secrets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
"Seconds before the second try, doubled with each further one up to the longest; half of each pause is random."
TRIES = 12
"The most tries of a question that fail for reasons of its own: no complete answer, a broken one, or status 500."
SILENCE_SECONDS, LEAST_TRIES = 1800.0, 3
"""Seconds from the first failure without any complete answer, and the least tries of a question in them, after which an
endpoint that is down or overloaded is given up."""
LONGEST_WAIT = 3600.0
"The most seconds that an endpoint may ask to wait."
MONEY = 10**12
"Parts of the prices' currency unit in which money is counted."
WAYS: tuple[dict[str, Any], ...] = ({"echo": True, "logprobs": 1}, {"prompt_logprobs": 0})
"Ways to ask endpoints for the log-probabilities of a prompt."
SAME_TOKENS = 0.9
"The least share of the prompt's tokens whose texts must be the same on both sides."
FILTERED = ("content_filter", "content_policy_violation", "invalid_prompt", "data_inspection_failed")
"Codes of refusals because of the contents of a prompt: the provider withholds an answer."
FLAGGED = re.compile(r"\b(flagged|moderation|content[ _](policy|filter))", re.IGNORECASE)
"Words of such refusals without a code."
BAD_KEY = re.compile(r"\b(invalid|incorrect) api[ -]key|\bapi[ -]key (is )?(not valid|invalid|expired)", re.IGNORECASE)
"Words of a refused key: Gemini's status for it is 400."
log = logging.getLogger(__name__)


class Unanswered(Exception):
    """A question that gets no answer; says why, and how to fix it."""

    def __init__(self, what: str, key: str = "", fix: str = "", everywhere: bool = False) -> None:
        """`key` is the wrong key in the model's file; `everywhere` means that no other question gets an answer."""
        super().__init__(what)
        self.key, self.fix, self.everywhere = key, fix, everywhere


class Stopped(Exception):
    """A question that is not asked again, because the job is about to end."""


@dataclass
class Tries:
    """The tries of one question."""

    count: Counter[str] = field(default_factory=Counter)

    def pause(self, failure: Again, silent: float) -> float:
        """Seconds until the next try, after `silent` seconds of failures alone. Raises Unanswered if it is no use."""
        self.count[failure.kind] += 1
        tries, after = self.count.total(), failure.after or 0.0
        if after > LONGEST_WAIT:
            what = f"the endpoint asks to wait for {after:,.6g} s: {failure}"
            raise Unanswered(what, fix="run again after that: answers are kept", everywhere=True)
        if failure.kind in ("limited", "busy", "down"):
            if silent > SILENCE_SECONDS and tries >= LEAST_TRIES:
                what = f"the endpoint has answered nothing for {silent:.0f} s: {failure}"
                raise Unanswered(
                    what, "base_url", "run again when it answers: existing answers are kept", everywhere=True
                )
        elif self.count[failure.kind] >= TRIES:
            fix = "see the endpoint's log; raise timeout if answers take longer"
            raise Unanswered(f"asked {tries} times without an answer, the last time: {failure}", fix=fix)
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries - 1, 30))
        return max(after, longest / 2) + random.uniform(0, longest / 2)


class Asker:
    """Asks the questions of a model, all in one event loop."""

    def __init__(
        self,
        settings: OpenaiConfig,
        secrets: Secrets,
        permits: Permits,
        tokenizer: "PreTrainedTokenizerBase | None",
    ) -> None:
        self._settings, self._secrets, self._tokenizer = settings, secrets, tokenizer
        self._client, self._permits = Client(settings, secrets), permits
        self._dialect = Dialect()
        self._way: dict[str, Any] | None = None
        "The way in which to ask for prompts' log-probabilities, once an answer had them."
        self._first_score = asyncio.Lock()
        self._resting: set[asyncio.Task[Any]] = set()
        "Tasks that wait for a permit, or for the next try."
        self._failed: float | None = None
        "The time of the first failure since the last answer: a slow pace is no silence."
        self._is_counted = False
        "Whether the count of tokens of a prompt to continue has been compared with the tokens sent."
        self._served: set[str] = set()
        self._stopping = False

    def start(self) -> None:
        """Begin a round of questions."""
        self._failed, self._stopping = None, False

    def stop(self) -> None:
        """Ask nothing more; questions in flight may still be answered."""
        self._stopping = True
        for task in self._resting:
            task.cancel()

    async def close(self) -> None:
        """Release all resources."""
        await self._client.close()
        await self._permits.close()

    async def ask(self, question: Question) -> Reply:
        """The complete answer to a question. Raises Unanswered, OutOfMoney, or Stopped."""
        if question.row is None:
            return await self._answer(question, {})
        if self._way is None:
            async with self._first_score:  # one at a time, so that an endpoint without this feature is not asked by all
                if self._way is None:
                    return await self._find_way(question)
        return await self._scored(question, self._way)

    async def _scored(self, question: Question, way: dict[str, Any]) -> Reply:
        try:
            return await self._answer(question, way)
        except NoLogprobs as error:
            raise Unanswered(
                f"{error}, though earlier answers had them all", fix="use an endpoint that always returns them"
            ) from error

    async def _find_way(self, question: Question) -> Reply:
        """The first score, asked for in the first way that the endpoint supports. Raises Unanswered."""
        told: list[str] = []
        for way in WAYS:
            try:
                reply = await self._answer(question, way, first=True)
            except NoLogprobs as error:
                told.append(f"with {' and '.join(way)}: {error}")
                continue
            except Unanswered as error:
                if way is WAYS[0] or error.everywhere:
                    raise
                told.append(f"with {' and '.join(way)}: {error}")
                continue
            self._way = way
            return reply
        what = f"the endpoint does not return the log-probabilities of prompts ({'; '.join(told)})"
        fix = "use an endpoint that does, such as vLLM's server, or data sets of kind generate"
        raise Unanswered(what, "base_url", fix, everywhere=True)

    async def _answer(self, question: Question, more: dict[str, Any], first: bool = False) -> Reply:
        tries = Tries()
        while True:
            try:
                return await self._try(question, more, first)
            except Again as failure:
                if self._stopping:
                    raise Stopped from failure
                log.debug("request %s: %s", question.request[:16], failure)
                now = time.monotonic()
                self._failed = self._failed or now
                pause = tries.pause(failure, now - self._failed)
            except Refused as refused:
                if reply := _withheld(refused):
                    return reply
                if self._stopping or not self._dialect.learns(refused):
                    if first and refused.status in REFUSALS and more is WAYS[0]:
                        raise NoLogprobs(f"HTTP {refused.status}: {refused.failure.message}") from refused
                    raise self._unanswered(refused) from refused
                pause = 0.0
            with self._at_rest():
                await asyncio.sleep(pause)

    async def _try(self, question: Question, more: dict[str, Any], first: bool) -> Reply:
        """One try, with a permit. Raises Again, Refused, NoLogprobs, Unanswered, OutOfMoney."""
        worst = self.cost(question.read, question.write)
        with self._at_rest():
            permit = await self._permits.take(question.read + question.write, worst)
        outcome, after, tokens, cost = TROUBLE, 0.0, question.read + question.write, worst
        try:
            body = self._dialect.adapted(question.body | more)
            content = await self._client.ask(msgspec.json.encode(self._whole(body)))
            reply = self._read(content, question)
            if first:
                self._check_tokenizer(content, question)
            if more is WAYS[0] or not (question.row or self._is_counted):
                self._check_count(question, reply.usage.read)
            outcome, tokens = OK, sum(_known(reply.usage.read, question.read, reply.usage.written, question.write))
            cost = self.cost(*_known(reply.usage.read, question.read, reply.usage.written, question.write))
            self._heard(reply)
            return reply
        except Again as failure:
            outcome = LIMITED if failure.kind == "limited" else TROUBLE
            after = failure.after if failure.after and failure.after <= LONGEST_WAIT else 0.0
            tokens, cost = (tokens, cost) if failure.billed else (0, 0)
            raise
        except Refused as refused:
            tokens, cost, refused.body = 0, 0, body
            raise
        finally:
            self._permits.settle(permit, tokens, cost, outcome, after)

    def _whole(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"model": self._settings.model, **body, **self._secrets.fields}

    def _read(self, content: bytes, question: Question) -> Reply:
        try:
            found = read_answer(content, question, self._settings.api)
        except Malformed as error:
            raise Again("malformed", self._secrets.hidden(str(error)), billed=True) from error
        except Unfit as error:
            raise Unanswered(self._secrets.hidden(str(error)), fix=error.fix) from error
        if isinstance(found, Failure):
            raise self._client.judged(found.status or 500, found)
        hidden = self._secrets.hidden
        return found._replace(text=hidden(found.text), reasoning=hidden(found.reasoning), served=hidden(found.served))

    def _heard(self, reply: Reply) -> None:
        self._failed = None
        if reply.served not in self._served and len(self._served) < 100:
            self._served.add(reply.served)
            log.info("answers are from %s", reply.served or "a model that the endpoint does not name")

    def _check_tokenizer(self, content: bytes, question: Question) -> None:
        """Raise Unanswered if the endpoint's tokens differ from those of the local tokenizer."""
        prompt = question.body["prompt"]
        texts = token_texts(content, prompt)
        if texts is None or self._tokenizer is None:
            return
        own = [str(self._tokenizer.decode([token])) for token in prompt]
        pairs = [(a.strip(" ▁Ġ"), b.strip(" ▁Ġ")) for a, b in zip(own, texts, strict=False) if b is not None]
        other = [pair for pair in pairs if pair[0] != pair[1] and "\ufffd" not in pair[0] + pair[1]]
        if pairs and len(other) > (1 - SAME_TOKENS) * len(pairs):
            here, there = other[0]
            what = f"the endpoint's tokens differ from the tokenizer's: {there[:50]!r} instead of {here[:50]!r}"
            raise Unanswered(what, "tokenizer_path", "name the tokenizer of the model that is served", everywhere=True)

    def _check_count(self, question: Question, read: int | None) -> None:
        """Compare an endpoint's count of a prompt's tokens with those sent: it may add a BOS of its own.

        Raises Unanswered if they are scored: echoed log-probabilities do not say which token they belong to.
        """
        prompt = question.body.get("prompt")
        if read is None or not isinstance(prompt, list):
            return
        self._is_counted = question.row is None
        if read == len(prompt):
            return
        what = f"the endpoint read {read} tokens where {len(prompt)} were sent: it adds its own, such as BOS, or cuts"
        if question.row:
            fix = "let the server take token ids as they are; or use one that does, such as vLLM's"
            raise Unanswered(f"{what}, so its log-probabilities may be other tokens'", "base_url", fix, everywhere=True)
        log.warning("%s; answers may differ from those of the same model elsewhere", what)

    def _unanswered(self, refused: Refused) -> Unanswered:
        """The meaning of a refusal, with the key of the model's file that is to blame."""
        status, failure = refused.status, refused.failure
        what, env = f"HTTP {status}: {failure.message or 'no message'}", self._settings.api_key_env
        if status == 403 and self._served:  # the key has worked, so it is about this request
            return Unanswered(what, fix="see what the endpoint refuses in it; leave such rows out with `where`")
        if status in (401, 403) or BAD_KEY.search(failure.message):
            fix = (
                f"set {env} to a key that may use the model"
                if env
                else "set api_key_env to a variable that holds a key"
            )
            return Unanswered(what, "api_key_env", fix, everywhere=True)
        if status == 402 or failure.code in PENNILESS:
            return Unanswered(
                what,
                "api_key_env",
                "top up the account or raise its quota, and run again: answers are kept",
                everywhere=True,
            )
        if status == 404:
            key = "model" if "model" in f"{failure.message} {failure.code} {failure.parameter}".lower() else "base_url"
            fix = "name a model that the endpoint serves" if key == "model" else "correct the address, or api"
            return Unanswered(what, key, fix, everywhere=True)
        if status < 400 or status in (405, 501):
            return Unanswered(
                what, "base_url", "give the final address, to which this one may redirect", everywhere=True
            )
        if key := self._own_key(failure):
            fix = "give a value that the endpoint accepts for this model, or drop it"
            return Unanswered(what, key, fix, everywhere=True)
        return Unanswered(what, fix=_fix(failure))

    def _own_key(self, failure: Failure) -> str:
        """The key of the model's file that sets the field at fault, which is in all requests; empty if none does."""
        keys = {field: f"extra_body.{field}" for field in self._settings.extra_body}
        if self._settings.api == "chat" and self._settings.reasoning is not None:
            keys |= {EFFORT: "reasoning", "reasoning": "reasoning"}
        return next((key for field, key in keys.items() if _blames(failure, field)), "")

    def cost(self, read: int, written: int) -> int:
        """The cost of tokens, in parts of the currency unit (see MONEY)."""
        price = self._settings.price or Price(input=0, output=0)
        return round(read * price.input * MONEY / 1e6) + round(written * price.output * MONEY / 1e6)

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        """A block that `stop` ends."""
        task = asyncio.current_task()
        assert task
        if self._stopping:
            raise Stopped
        self._resting.add(task)
        try:
            yield
        finally:
            self._resting.discard(task)


def _known(read: int | None, most_read: int, written: int | None, most_written: int) -> tuple[int, int]:
    """The token counts of the endpoint; where there is none, the most that there can be."""
    return most_read if read is None else read, most_written if written is None else written


def _withheld(refused: Refused) -> Reply | None:
    """The answer that a refusal amounts to if it is about the contents of the prompt: none, because of a filter."""
    failure = refused.failure
    filtered = failure.code in FILTERED or (refused.status == 403 and FLAGGED.search(failure.message))
    if refused.status == 451 or (refused.status in (400, 403, 422) and filtered):
        return Reply(Usage(0, 0), "", end="filter")
    return None


def _blames(failure: Failure, field: str) -> bool:
    """Whether a failure is about a field of the request; a name that may be a usual word must be in quotes."""
    if failure.parameter:
        return failure.parameter == field
    quote = "" if "_" in field else "['\"`]"
    return bool(re.search(rf"(?<!\w){quote}{re.escape(field)}{quote}(?!\w)", failure.message))


def _fix(failure: Failure) -> str:
    """The fix for a request that an endpoint refuses."""
    text = f"{failure.message} {failure.code} {failure.parameter}".lower()
    if "context" in text or "too long" in text or "too large" in text or ("maximum" in text and "length" in text):
        return "lower max_new_tokens or num_fewshot, or with api: completions set max_seq_len to truncate prompts"
    for field_, setting in _SETTINGS.items():
        if field_ in text:
            return f"{setting}: use a value that the endpoint accepts, or drop it"
    return "look it up in the endpoint's documentation, and correct the model's file or the data set"


_SETTINGS = {
    "temperature": "gen_kwargs.temperature of the run, or generation.temperature of the data set",
    "top_p": "gen_kwargs.top_p of the run, or generation.top_p of the data set",
    "top_k": "generation.top_k of the data set",
    "min_tokens": "generation.min_new_tokens of the data set",
    "max_tokens": "generation.max_new_tokens of the data set, or max_out_len of the model",
    "continue_final_message": "continue_final_message in the model's file",
}
