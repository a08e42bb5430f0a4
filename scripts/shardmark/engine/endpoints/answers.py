"""Checked answers of an endpoint: neither their form nor their size is trusted."""

import json
import math
from typing import Any, NamedTuple

import msgspec

from shardmark.engine.endpoints.failures import Failure, failure_in, shortened
from shardmark.engine.endpoints.questions import Question
from shardmark.engine.tokens import well_formed
from shardmark.records.base import Unreadable, parse
from shardmark.texts.thoughts import thoughts_in

ENDS = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "filter",
    "safety": "filter",
    "sensitive": "filter",
    "recitation": "filter",
    "blocklist": "filter",
    "prohibited_content": "filter",
    "spii": "filter",
    "refusal": "refusal",
}
"""An endpoint's reasons for the end of a text, in lower case, and those of predictions.

Endpoints don't tell eos from a stop string. Gemini's names of filters follow a colon where they have a common name.
"""
FAILED = ("error", "abort", "cancelled", "insufficient_system_resource", "network_error")
"Reasons that mean a text was not finished: it is asked for again."
SERVED_LENGTH = 200
"The most characters kept of the name and fingerprint that an endpoint gives."
MOST_TOKENS = 10_000_000
"The largest count that is believed: endpoints add prompts of their own and ignore limits, but have no such window."

LONGEST_TOKEN = 1024
"The most bytes that a token can have: a count of fewer tokens than a text must have is not believed."
LONGEST_NUMBER = 40
"The number of digits from which on a number counts as infinite."
LOWEST, ABOVE_ZERO = -1e6, 0.01
"The range of log-probabilities: no model is that sure, and rounding may put one above 0."


class Malformed(Exception):
    """An answer that violates the protocol."""


class Unfit(Exception):
    """A complete answer that does not answer the question; says how to fix that."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class Usage(NamedTuple):
    """Token counts of an endpoint; None if it gives none, or none that can be believed."""

    read: int | None = None
    written: int | None = None
    thought: int | None = None


class Reply(NamedTuple):
    """A complete answer."""

    usage: Usage
    served: str
    text: str = ""
    reasoning: str = ""
    end: str = ""
    score: tuple[float, bool] | None = None
    "For a scored row: its log-likelihood, and whether all of it is greedy."


class NoLogprobs(Exception):
    """An answer without the log-probability of each token of the prompt."""


class _Choice(msgspec.Struct):
    finish_reason: Any = None
    message: Any = None
    text: Any = None
    logprobs: Any = None
    prompt_logprobs: Any = None
    error: Any = None


class _Body(msgspec.Struct):
    choices: list[_Choice] | None = None
    model: Any = None
    provider: Any = None
    system_fingerprint: Any = None
    usage: Any = None
    error: Any = None


_DECODER = msgspec.json.Decoder(_Body)


def _decode(content: bytes) -> _Body:
    try:
        return _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # a lone surrogate, a number that JSON lacks, or an error: the slow parser finds out
    try:
        return msgspec.convert(json.loads(content, parse_int=_whole_number), _Body)
    except (ValueError, RecursionError) as error:
        begin = shortened(content[:200].decode(errors="replace"))
        raise Malformed(f"it is not an answer in JSON ({error}), but begins with {begin!r}"[:300]) from error


def _whole_number(digits: str) -> float:
    return int(digits) if len(digits) < LONGEST_NUMBER else math.inf


def read_answer(content: bytes, question: Question, api: str) -> Reply | Failure:
    """The answer in a body, or the error that it reports, whatever its HTTP status.

    Raises Malformed, Unfit, or NoLogprobs.
    """
    try:
        body = _decode(content)
        if not body.choices and not body.error:
            value = parse(content)
            if isinstance(value, dict) and (value.get("detail") or value.get("message")):
                return failure_in(value)  # an error with status 200
            raise Malformed(f"it has no choices, but begins with {shortened(content[:200].decode(errors='replace'))!r}")
        return _read(body, question, api)
    except Unreadable as error:
        raise Malformed(str(error)[:300]) from error
    except RecursionError as error:
        raise Malformed("it is nested too deeply") from error


def _read(body: _Body, question: Question, api: str) -> Reply | Failure:
    if not body.choices and body.error:
        return failure_in({"error": body.error})
    choices = body.choices or []
    if len(choices) != 1:
        raise Malformed(f"it has {len(choices)} choices instead of one")
    choice = choices[0]
    if choice.error:
        return failure_in({"error": choice.error})
    if question.row:
        if _is_failed(choice.finish_reason):
            _end(choice.finish_reason)
        return Reply(_usage(body.usage, ""), _served(body), score=_score(choice, question))
    if _known_end(choice.finish_reason) in WITHOUT_TEXT and _has_no_text(choice, api):
        text, reasoning, refusal = "", "", ""
    else:
        text, reasoning, refusal = _chat_texts(choice.message) if api == "chat" else (_text(choice.text), "", "")
    end = "refusal" if refusal else _end(choice.finish_reason)
    text = text or refusal
    text, stopped = _before_stop(text, question)
    usage, end = _usage(body.usage, text + reasoning), "stop" if stopped else end
    # A stop string ends a text sooner, and endpoints don't say that it was one.
    if end == "stop" and not question.stop and usage.written is not None and usage.written < question.least:
        what = f"it wrote {usage.written} tokens instead of at least {question.least}: the endpoint ignores min_tokens"
        raise Unfit(
            what, "drop min_new_tokens from the data set's generation, or use an endpoint that supports it (vLLM)"
        )
    return Reply(usage, _served(body), text, reasoning, end)


WITHOUT_TEXT = ("filter", "refusal", "length")
"Ends of answers for which an endpoint may send no text at all."


def _known_end(reason: Any) -> str | None:
    return ENDS.get(reason.lower().partition(":")[0].strip()) if isinstance(reason, str) else None


def _has_no_text(choice: _Choice, api: str) -> bool:
    """Whether there is no text, rather than one of the wrong type."""
    if api != "chat":
        return choice.text is None
    return choice.message is None or (isinstance(choice.message, dict) and choice.message.keys() <= {"role"})


def _is_failed(reason: Any) -> bool:
    return isinstance(reason, str) and reason.lower() in FAILED


def _end(reason: Any) -> str:
    if _is_failed(reason):
        raise Malformed(f"the endpoint gave up halfway (finish_reason {reason!r})")
    if reason is None:
        raise Malformed("it has no finish_reason, so it may be incomplete")
    end = _known_end(reason)
    if end is None:
        known = ", ".join(ENDS)
        raise Unfit(
            f"finish_reason is {str(reason)[:100]!r}, which is none of {known}",
            "look it up in the endpoint's documentation",
        )
    return end


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Malformed(f"its text is {type(value).__name__}")
    return well_formed(value)


def _chat_texts(message: Any) -> tuple[str, str, str]:
    """The text of a message, its thoughts if they are separate, and the reason why the model refuses."""
    if not isinstance(message, dict):
        raise Malformed("its choice has no message")
    if message.get("tool_calls") or message.get("function_call"):
        fix = "drop tools from extra_body, or start the server without a tool-call parser"
        raise Unfit("it calls a tool instead of answering", fix)
    content, refusal = message.get("content"), message.get("refusal")
    reasoning = next((v for v in map(message.get, ("reasoning_content", "reasoning")) if v and isinstance(v, str)), "")
    if isinstance(content, list):  # a list of parts, which some endpoints use for thoughts
        said, thought, refused = _parts(content)
        content, reasoning, refusal = said, reasoning or thought, refusal or refused
    if refusal and not isinstance(refusal, str):
        raise Malformed(f"its refusal is {type(refusal).__name__}")
    if content is None and not ("content" in message or reasoning or refusal):
        raise Malformed("its message has no content")
    return (
        "" if content is None else _text(content),
        well_formed(reasoning),
        well_formed(refusal or ""),
    )


def _parts(content: list[Any]) -> tuple[str, str, str]:
    """The text of a message in parts, its thoughts, and the reason why the model refuses."""
    said, thought, refused = [], [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("text", "output_text"):
            said.append(_text(part.get("text")))
        elif kind == "refusal":
            refused.append(_text(part.get("refusal")))
        elif kind in ("thinking", "reasoning"):
            inner = part.get(kind)
            thought.append(_parts(inner)[0] if isinstance(inner, list) else _text(inner))
        else:
            raise Malformed(f"its message has a part of the type {str(kind)[:50]!r}")
    return "".join(said), "".join(thought), "".join(refused)


def _before_stop(text: str, question: Question) -> tuple[str, bool]:
    """The text before the first stop string, which some endpoints leave in it, and whether there was one."""
    start = 0
    if question.thinks:  # within a thought, none counts
        found = thoughts_in(question.opened + text, tags=question.tags)
        if found.unfinished:
            return text, False
        start = max(0, found.end - len(question.opened))
    places = [place for string in question.stop if (place := text.find(string, start)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def _usage(value: Any, written: str) -> Usage:
    """The token counts of an endpoint, as far as they are plausible."""
    if not isinstance(value, dict):
        return Usage()
    details = value.get("completion_tokens_details")
    thought = details.get("reasoning_tokens") if isinstance(details, dict) else value.get("reasoning_tokens")
    size = len(written.encode(errors="replace"))
    count = value.get("completion_tokens")
    match value:
        case {"completion_tokens": int(said), "prompt_tokens": int(asked), "total_tokens": int(total)}:
            if isinstance(thought, int) and thought and total == asked + said + thought:
                count = said + thought  # some endpoints don't include thoughts
    tokens = _count(count, MOST_TOKENS, least=-(-size // LONGEST_TOKEN))
    return Usage(
        read=_count(value.get("prompt_tokens"), MOST_TOKENS, least=1),
        written=tokens,
        thought=None if tokens is None else _count(thought, tokens),
    )


def _count(value: Any, most: int, least: int = 0) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most else None


def _served(body: _Body) -> str:
    """The model that an endpoint says it answered with: its name, who provides it (OpenRouter), and its fingerprint."""
    parts = (
        "".join(character for character in str(part or "")[:SERVED_LENGTH] if character.isprintable())
        for part in (body.model, body.provider, body.system_fingerprint)
    )
    return well_formed(" ".join("_".join(part.split()) for part in parts if part.strip()))


def _score(choice: _Choice, question: Question) -> tuple[float, bool]:
    """The log-likelihood of a row, from either of the two formats. Raises NoLogprobs."""
    assert question.row is not None
    prompt, scored = question.body["prompt"], len(question.row.scored)
    if choice.prompt_logprobs is not None:
        pairs = _by_id(choice.prompt_logprobs, prompt)
    else:
        pairs = _echoed(choice.logprobs, prompt)
    if len(prompt) > 2 and not any(value != 0 for value, _ in pairs[1:]):
        raise NoLogprobs("the log-probabilities of all tokens of the prompt are 0")
    values = pairs[len(prompt) - scored : len(prompt)]
    for value, _ in values:
        if value is None or not LOWEST <= value <= ABOVE_ZERO:
            raise NoLogprobs(f"the log-probability of a token is {value}")
    return math.fsum(value or 0.0 for value, _ in values), all(greedy for _, greedy in values)


Pair = tuple[float | None, bool]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _by_id(found: Any, prompt: list[int]) -> list[Pair]:
    """Log-probabilities in vLLM's `prompt_logprobs`: for each token of the prompt, a mapping of token ids to facts."""
    if not isinstance(found, list) or len(found) != len(prompt):
        raise NoLogprobs(_counted(found, prompt))
    pairs: list[Pair] = [(None, False)]
    for token, known in zip(prompt[1:], found[1:], strict=True):
        own = known.get(str(token)) if isinstance(known, dict) else None
        if not isinstance(own, dict):
            raise NoLogprobs(f"token {token} of the prompt is not among those that it returns")
        if not isinstance(own.get("rank"), int):
            raise NoLogprobs(f"token {token} of the prompt has no rank, which says whether it is the likeliest")
        pairs.append((_number(own.get("logprob")), own.get("rank") == 1))
    return pairs


def _echoed(found: Any, prompt: list[int]) -> list[Pair]:
    """Log-probabilities as returned with `echo`: a list of values and one of the likeliest tokens."""
    values = found.get("token_logprobs") if isinstance(found, dict) else None
    tops = found.get("top_logprobs") if isinstance(found, dict) else None
    if not isinstance(values, list) or len(values) not in (len(prompt), len(prompt) + 1):
        raise NoLogprobs(_counted(values, prompt))
    if not isinstance(tops, list) or len(tops) != len(values):
        raise NoLogprobs(f"{len(prompt)} tokens have {len(tops) if isinstance(tops, list) else 'no'} likeliest tokens")
    if _number(values[0]) is not None:
        raise NoLogprobs("the first token of the prompt has a log-probability, so they belong to other tokens")
    pairs: list[Pair] = [(None, False)]
    for value, top in zip(values[1 : len(prompt)], tops[1 : len(prompt)], strict=True):
        own = _number(value)
        best = [_number(other) for other in top.values()] if isinstance(top, dict) and top else [None]
        if None in best:
            raise NoLogprobs("some tokens have no likeliest token")
        pairs.append((own, own is not None and own >= max(b for b in best if b is not None)))
    return pairs


def token_texts(content: bytes, prompt: list[int]) -> list[str | None] | None:
    """The endpoint's texts of the prompt's tokens, None for each one that it does not give; None if it gives none."""
    choice = (_decode(content).choices or [_Choice()])[0]
    texts: Any = choice.logprobs.get("tokens") if isinstance(choice.logprobs, dict) else None
    if isinstance(choice.prompt_logprobs, list):
        pairs = zip(prompt, choice.prompt_logprobs, strict=False)
        known = (each.get(str(token)) if isinstance(each, dict) else None for token, each in pairs)
        texts = [own.get("decoded_token") if isinstance(own, dict) else None for own in known]
    return [text if isinstance(text, str) else None for text in texts] if isinstance(texts, list) else None


def _counted(found: Any, prompt: list[int]) -> str:
    count = len(found) if isinstance(found, list) else "no"
    return f"{len(prompt)} tokens have {count} log-probabilities"
