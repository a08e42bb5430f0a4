"""From what a request says to a model's tokens: its tokenizer, with its chat template or the meta template of its file.

A chat template brings its own special tokens, so nothing is added to what it makes. A meta template is a text like any
other, whose BOS is not doubled.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from shardmark.config.weights import MetaTemplate, WeightsConfig
from shardmark.engine.tokens import encode, encode_pair, prefix_token
from shardmark.lock.entries import ADD
from shardmark.records.base import to_json
from shardmark.records.request import Context, Message
from shardmark.texts.thoughts import opened_mark
from shardmark.untrusted.limits import BoundError, bounded_steps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GIVE_PREFIX = "give the tokenizer a BOS or EOS token"


class WordingError(ValueError):
    """A request that cannot be put into tokens; says what is wrong and how to fix it."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class Wording:
    """How a model is asked."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", settings: WeightsConfig) -> None:
        """`settings` are those of the model's file."""
        self.tokenizer = tokenizer
        self._meta = settings.meta_template
        self._kwargs = settings.chat_template_kwargs
        self._day = datetime.fromisoformat(settings.template_date)

    def prompt(self, context: Context) -> list[int]:
        """The tokens of what the model is to continue. Raises WordingError."""
        text, special = self._text(context, is_open=True)
        return encode(self.tokenizer, text, **special) or [self._prefix()]

    def opened(self, context: Context) -> str:
        """The mark of the thought in which the model is to continue, such as <think>, if the prompt ends with it."""
        return opened_mark(self._text(context, is_open=True)[0])

    def pair(self, context: Context, continuation: Context) -> tuple[list[int], list[int]]:
        """The tokens of a context, and of the continuation that is scored after it. Raises WordingError."""
        if not isinstance(continuation, str):
            continuation, _ = self._text(continuation, is_open=False)
        text, special = self._text(context, is_open=True) if context else ("", {})
        try:
            return encode_pair(self.tokenizer, text, continuation, **special)
        except ValueError as error:
            raise WordingError(str(error), GIVE_PREFIX) from error

    def whole(self, text: str) -> tuple[int, list[int]]:
        """The prefix token and the tokens of a whole text after it. Raises WordingError."""
        return self._prefix(), encode(self.tokenizer, text)

    def _prefix(self) -> int:
        try:
            return prefix_token(self.tokenizer)
        except ValueError as error:
            raise WordingError(str(error), GIVE_PREFIX) from error

    def _text(self, context: Context, is_open: bool) -> tuple[str, dict[str, bool]]:
        """The text of a context, which goes on if it is open, and how it is to be encoded."""
        if isinstance(context, str):
            return context, {}
        if not self._meta:
            return self._templated(context, is_open), {"add_special_tokens": False}
        text, bos = by_meta_template(self._meta, context, is_open), self.tokenizer.bos_token
        return text, {"add_special_tokens": False} if bos and text.startswith(bos) else {}

    def _templated(self, messages: list[Message], is_open: bool) -> str:
        if not self.tokenizer.chat_template:
            raise WordingError("it is a chat, and the tokenizer has no chat template", ADD)
        begun = messages[-1].role == "assistant"
        how = {"add_generation_prompt": is_open and not begun, "continue_final_message": is_open and begun}
        try:
            with bounded_steps() as step, step.at("the model's chat template"), today_is(self._day):
                return str(self.tokenizer.apply_chat_template(to_json(messages), tokenize=False, **how, **self._kwargs))
        except BoundError as error:
            what = f"the chat template cannot be rendered: {error.what}"
            raise WordingError(what, "give the model another chat template, or a meta_template") from error
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            what = f"the chat template refuses its messages: {error}"
            raise WordingError(what, "fix the data set's messages, or give the model a meta_template") from error


@contextmanager
def today_is(day: datetime) -> Iterator[None]:
    """A block in which chat templates are told this day as today's: else each day would ask something else.

    transformers takes no such argument, and reads its clock as `datetime.now()`. A test holds it to that.
    """
    from transformers.utils import chat_template_utils

    clock = chat_template_utils.datetime
    chat_template_utils.datetime = SimpleNamespace(now=lambda: day)
    try:
        yield
    finally:
        chat_template_utils.datetime = clock


def by_meta_template(meta: MetaTemplate, messages: list[Message], is_open: bool) -> str:
    """The text of a chat; if it is open, up to where the assistant goes on. Raises WordingError."""
    parts = [meta.begin]
    turns = {str(role): turn for role, turn in meta.round.items()}
    for message in messages:
        turn = turns.get(message.role)
        if turn is None:
            known = ", ".join(meta.round)
            fix = f"add {message.role} to meta_template.round in the model's file (it has {known})"
            raise WordingError(f"its meta template has no role {message.role}", fix)
        parts += [turn.begin, message.content, turn.end]
    if not is_open:
        return "".join(parts) + meta.end
    if messages[-1].role == "assistant":
        return "".join(parts[:-1])
    return "".join(parts) + meta.round["assistant"].begin
