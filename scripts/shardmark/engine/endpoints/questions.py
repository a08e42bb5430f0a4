"""From requests to questions for an endpoint: an HTTP body for each sample, choice or window."""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from shardmark.config.backends.openai import OpenaiConfig
from shardmark.engine.rows import scored_rows
from shardmark.engine.tokenization import Wording
from shardmark.engine.tokens import ScoredRow, well_formed
from shardmark.records.prediction import Frame
from shardmark.records.request import GenerateRequest, Request
from shardmark.tasks.chat_templates import ChatTemplate, WordingError, by_meta_template
from shardmark.tasks.frames import frame_of
from shardmark.tasks.requests import without_empty_answer
from shardmark.texts.thoughts import Tags

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNBOUNDED = 1 << 40
"The window of a model whose file gives none: nothing is cut, and the endpoint refuses prompts that are too long."
AROUND_CHAT, AROUND_MESSAGE = 256, 32
"The most tokens that an endpoint is assumed to put around a chat, and around each of its messages."


@dataclass(frozen=True)
class Question:
    """One HTTP request, and the part of a request that it answers."""

    request: str
    "The request's id."
    part: int
    "The number of the request's sample, choice or window."
    body: dict[str, Any]
    "The body that is sent, without the model's name."
    read: int
    "The most tokens that the endpoint may read for it."
    write: int
    "The most tokens that it may write."
    row: ScoredRow | None = None
    "The row to score; None for a text."
    stop: tuple[str, ...] = ()
    least: int = 0
    "The least tokens of a text that no stop string ends."
    cut: int = 0
    "Tokens of the prompt that were cut to fit the window."
    opened: str = ""
    "The opening mark of a thought at the end of the prompt."
    sent: tuple[Frame, ...] = ()
    "The frame of the prompt, if it is the text of a chat."
    thinks: bool = False
    "Whether the model's file tells of thoughts: within one, no stop string ends the text."
    tags: Tags | None = None
    "The model's own marks of thoughts."


class Questions:
    """Turns requests into HTTP bodies, as a model's file specifies."""

    def __init__(self, settings: OpenaiConfig, tokenizer: "PreTrainedTokenizerBase | None") -> None:
        self._settings = settings
        self._wording = Wording(tokenizer, settings) if tokenizer else None
        meta = settings.meta_template
        self._template = ChatTemplate(partial(by_meta_template, meta)) if meta else None
        self._window = settings.max_seq_len or UNBOUNDED
        self._more = _bytes(json.dumps(settings.extra_body)) if settings.extra_body else 0
        "The most tokens that fields such as tools can add to a chat."

    def of(self, key: str, request: Request) -> list[Question]:
        """The questions for a request. Raises WordingError."""
        if isinstance(request, GenerateRequest):
            return self._texts(key, request)
        if self._wording is None:
            raise WordingError("log-likelihoods need a tokenizer", "add a tokenizer_path to the model's file")
        # The endpoint also writes one token, which must fit into its window.
        rows = scored_rows(self._wording, request, self._window - 2)
        return [_scored(key, number, row) for number, row in enumerate(rows)]

    def _texts(self, key: str, request: GenerateRequest) -> list[Question]:
        settings = self._settings
        limit = settings.answer_tokens(request.max_new_tokens) + settings.thought_tokens
        build = self._chat if settings.api == "chat" else self._text
        first = build(key, request, limit)
        first.body.update(_decoding(request, limit))
        if settings.tells_of_reasoning:
            first.body.pop("stop", None)  # endpoints look for stop strings in thoughts, too: answers are cut here
            first = replace(first, thinks=True, tags=settings.reasoning_tags)
        if request.temperature == 0:
            return [replace(first, part=part) for part in range(request.samples)]
        return [
            replace(first, part=part, body=first.body | {"seed": seed_of(key, part)}) for part in range(request.samples)
        ]

    def _chat(self, key: str, request: GenerateRequest, limit: int) -> Question:
        if request.messages is None:
            fix = "ask it in chats (apply_chat_template: true), or set api: completions in the model's file"
            raise WordingError("it is a text, but the endpoint accepts only chats", fix)
        said = without_empty_answer(request.messages)
        body: dict[str, Any] = {
            "messages": [{"role": each.role, "content": well_formed(each.content)} for each in said]
        }
        if said[-1].role == "assistant":
            if not self._settings.continue_final_message:
                fix = (
                    "set continue_final_message: true if it can (vLLM and SGLang can), or leave the beginning of the "
                    "answer out"
                )
                raise WordingError("it begins the answer, but the endpoint is not known to continue answers", fix)
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if self._settings.reasoning is not None:
            body["reasoning_effort"] = self._settings.reasoning
        read = AROUND_CHAT + self._more + sum(_bytes(message.content) + AROUND_MESSAGE for message in said)
        return _question(key, body, read, limit, request)

    def _text(self, key: str, request: GenerateRequest, limit: int) -> Question:
        if self._wording is None:
            said = self._said(request)
            text = well_formed(said)
            asked = _question(key, {"prompt": text}, _bytes(text) + AROUND_MESSAGE, limit, request)
            return replace(asked, sent=(frame_of(request.messages, said),) if request.messages else ())
        tokens, room = self._wording.prompt(request.context), self._window - limit
        if room < 1:
            what = f"{limit} new tokens leave no room for a prompt in the window of {self._window}"
            raise WordingError(what, "lower max_out_len or reasoning_tokens, or raise max_seq_len")
        asked = _question(key, {"prompt": tokens[-room:]}, min(len(tokens), room) + 1, limit, request)
        opened, sent = self._wording.opened(request.context), self._wording.sent(request)
        return replace(asked, cut=max(0, len(tokens) - room), opened=opened, sent=sent)

    def _said(self, request: GenerateRequest) -> str:
        """The text of a request without a tokenizer."""
        if request.messages is None:
            return request.prompt or ""
        if self._template is None:
            fix = "set api: chat, a meta_template, or a tokenizer_path with a chat template in the model's file"
            raise WordingError("it is a chat, but the endpoint accepts only texts", fix)
        return self._template.text(request.messages, is_open=True)


def seed_of(key: str, part: int) -> int:
    """The seed for a sample, sent to the endpoint: 31 bits derived from the request's id."""
    return int.from_bytes(hashlib.sha256(f"{key}:{part}".encode()).digest()[:4], "little") >> 1


def _question(key: str, body: dict[str, Any], read: int, write: int, request: GenerateRequest) -> Question:
    stop = tuple(string for string in request.stop if string)
    return Question(key, 0, body, read=read, write=write, stop=stop, least=request.min_new_tokens)


def _decoding(request: GenerateRequest, limit: int) -> dict[str, Any]:
    """The decoding settings. Those without effect are left out, since many endpoints refuse them."""
    body: dict[str, Any] = {"max_tokens": limit, "temperature": request.temperature}
    if request.temperature > 0:
        body["top_p"] = request.top_p  # sent even if it is 1: servers have their own defaults
    optional: list[tuple[str, Any]] = [
        ("top_k", request.top_k if request.temperature > 0 else 0),
        ("min_tokens", request.min_new_tokens),
        ("stop", [well_formed(string) for string in request.stop if string]),
    ]
    return body | {name: value for name, value in optional if value}


def _scored(key: str, number: int, row: ScoredRow) -> Question:
    """The question for the tokens of a row. The last one is scored as well, so it is part of the prompt."""
    prompt = [*row.inputs, row.scored[-1]]
    body = {"prompt": prompt, "max_tokens": 1, "temperature": 0}
    return Question(key, number, body, read=len(prompt) + 1, write=1, row=row)


def _bytes(text: str) -> int:
    """The most tokens that a text can have."""
    return len(text.encode("utf-8", "surrogatepass"))
