"""A model's tokens from the text of a request: its tokenizer, with its chat template or the meta template of its file.

A chat template adds its own special tokens, so no others are added to its output. The output of a meta template is a
text like any other; a BOS at the beginning of a text is not doubled.
"""

from collections.abc import Iterable
from functools import cached_property, partial
from typing import TYPE_CHECKING

from shardmark.config.reasoning import DROP_SWITCH, NO_SWITCH, NO_TAGS, NO_THOUGHTS, ReasoningBudget, give_tags
from shardmark.config.wording import WordedConfig
from shardmark.engine.thoughts import ThoughtLimits, marking_tokens, special_tokens
from shardmark.engine.tokens import encode, encode_pair, prefix_token
from shardmark.lock.entries import ADD
from shardmark.records.prediction import Frame
from shardmark.records.request import Context, GenerateRequest, Message, Request
from shardmark.tasks.chat_templates import ChatTemplate, WordingError, by_meta_template, by_transformers
from shardmark.tasks.frames import frame_of
from shardmark.texts.thoughts import known_tags, mark_left_open

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LATEST_TEXTS = 16
"The most texts of chats that are kept."
GIVE_PREFIX = "give the tokenizer a BOS or EOS token"


class Wording:
    """The form in which a model is asked."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", settings: WordedConfig) -> None:
        """`settings` are those of the model's file."""
        self.tokenizer = tokenizer
        self._settings = settings
        self._meta = settings.meta_template
        self._switch = settings.switch(tokenizer.chat_template)
        self._template = self._chat_template(settings)
        self._texts: dict[tuple[bool | Message, ...], str] = {}

    def prompt(self, context: Context) -> list[int]:
        """The tokens of the prompt that the model is to continue. Raises WordingError."""
        text, special = self._text(context, is_open=True)
        return encode(self.tokenizer, text, **special) or [self._prefix()]

    def text(self, context: Context) -> str:
        """The text of the prompt, without the tokens that the tokenizer puts before it. Raises WordingError."""
        return self._text(context, is_open=True)[0]

    def sent(self, request: Request) -> tuple[Frame, ...]:
        """The frame of the chat in a request, or of those of its choices; none for texts. Raises WordingError."""
        pairs = [(request.context, "")] if isinstance(request, GenerateRequest) else request.pairs
        found = [self._frame(context or continuation, is_open=bool(context)) for context, continuation in pairs]
        return tuple(found if len(set(found)) > 1 else filter(None, found[:1]))

    def _frame(self, context: Context, is_open: bool) -> Frame:
        return () if isinstance(context, str) else frame_of(context, self._text(context, is_open)[0])

    def opened(self, context: Context) -> str:
        """The opening mark of the thought in which the model is to continue, such as <think>.

        It is at the end of the prompt; or else within or before the beginning of the answer, if the chat ends with an
        assistant message.
        """
        tags = self._settings.reasoning_tags
        begun = context[-1].content if not isinstance(context, str) and context[-1].role == "assistant" else ""
        return mark_left_open(self.text(context), begun, tags)

    def turn_ends(self, ends: Iterable[int]) -> tuple[int, ...]:
        """The token that ends an answer in a chat by its template, if none of the `ends` of texts does."""
        special, marks = special_tokens(self.tokenizer), marking_tokens(self.tokenizer, self._settings.reasoning_tags)
        numbers = {text: number for number, text in special.items() if number not in marks}
        token = self._template.turn_end(numbers, [text for end in ends if (text := special.get(end))])
        return (numbers[token],) if token else ()

    @cached_property
    def thoughts(self) -> ThoughtLimits | None:
        """Limits of thoughts, if the model's file sets any. Raises WordingError."""
        settings = self._settings
        if not settings.tells_of_reasoning or settings.reasoning in NO_THOUGHTS:
            return None
        added = (token.content for token in getattr(self.tokenizer, "added_tokens_decoder", {}).values())
        tags = settings.reasoning_tags or known_tags([settings.template_text(self.tokenizer.chat_template), *added])
        if tags is None:
            raise WordingError(NO_TAGS, give_tags(settings.template_text(self.tokenizer.chat_template)))
        budget = settings.reasoning.budget if isinstance(settings.reasoning, ReasoningBudget) else None
        opening, closing = (self.tokenizer.encode(tag, add_special_tokens=False) for tag in tags[:2])
        free = settings.thought_tokens + (len(opening) + len(closing) if budget else 0)
        return ThoughtLimits(tags, tuple(closing), budget, free)

    def pair(self, context: Context, continuation: Context) -> tuple[list[int], list[int]]:
        """The tokens of a context, and those of the continuation to score after it. Raises WordingError."""
        if not isinstance(continuation, str):
            continuation, _ = self._text(continuation, is_open=False)
        text, special = self._text(context, is_open=True) if context else ("", {})
        try:
            return encode_pair(self.tokenizer, text, continuation, **special)
        except ValueError as error:
            raise WordingError(str(error), GIVE_PREFIX) from error

    def whole(self, text: str) -> tuple[int, list[int]]:
        """The prefix token, and the tokens of a whole text. Raises WordingError."""
        return self._prefix(), encode(self.tokenizer, text)

    def _prefix(self) -> int:
        try:
            return prefix_token(self.tokenizer)
        except ValueError as error:
            raise WordingError(str(error), GIVE_PREFIX) from error

    def _text(self, context: Context, is_open: bool) -> tuple[str, dict[str, bool]]:
        """The text of a context, and keyword arguments for encoding it; `is_open` says whether the text goes on."""
        if isinstance(context, str):
            return context, {}
        if not self._meta and not self.tokenizer.chat_template:
            raise WordingError("it is a chat, but the tokenizer has no chat template", ADD)
        if self._switch is None:
            raise WordingError(NO_SWITCH.format(self._settings.reasoning), DROP_SWITCH)
        key: tuple[bool | Message, ...] = (is_open, *context)
        if key not in self._texts:  # a chat is rendered for its tokens, its choices, its thoughts and its frame
            if len(self._texts) >= LATEST_TEXTS:
                self._texts.clear()
            self._texts[key] = self._template.text(context, is_open)
        text = self._texts[key]
        return text, {} if self._meta else {"add_special_tokens": False}

    def _chat_template(self, settings: WordedConfig) -> ChatTemplate:
        if meta := settings.meta_template:
            return ChatTemplate(partial(by_meta_template, meta))
        kwargs = settings.chat_template_kwargs | (self._switch or {})
        apply = partial(self.tokenizer.apply_chat_template, tokenize=False, **kwargs)
        spoken = settings.spoken_switch(self.tokenizer.chat_template)
        return ChatTemplate(by_transformers(apply, settings.template_date, spoken))
