"""Texts of chats by a model's template: as transformers renders them, within bounds, and with nothing lost.

A template is first tried on each shape of chat, with marks in the place of the messages' texts. This shows, for any
model and before anything runs, which roles it refuses and which messages it drops silently. A system message that a
template does not accept is put at the beginning of the first user message; anything else is an error.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

from jinja2 import TemplateSyntaxError

from shardmark.config.reasoning import SPOKEN
from shardmark.config.wording import MetaTemplate
from shardmark.records.base import to_json
from shardmark.records.request import ChatShape, Message
from shardmark.tasks.requests import without_empty_answer
from shardmark.texts.thoughts import without_thoughts
from shardmark.untrusted.limits import BoundError, bounded_steps

Render = Callable[[list[Message], bool], str]
"The text of a chat; if it is open (the second argument), up to where the assistant continues. Raises WordingError."

Way = Callable[[Sequence[Message]], list[Message]]
"A change to a chat's messages before a template renders them."

ANOTHER = "give the model another chat template, or a meta_template"
REFUSED = "fix the data set's messages, or the model's reasoning or chat_template_kwargs, or give it a meta_template"
MESSAGES = "fix the data set's messages, or give the model a meta_template"
NO_SYSTEM = (
    "its template does not support the system message of some chats: it is put at the start of the first user's "
    "message, with a blank line between"
)
ONE_SYSTEM = "its template supports one system message: several are joined, with a blank line between"
SWITCH_WORD = re.compile(rf"(?<!\S)(?:{'|'.join(SPOKEN.values())})(?!\S)")
MARK = "Zq0xw"
"A text that no template has."
SHOWN_ROLES = 8
"The most roles of a chat that a message names."


class WordingError(ValueError):
    """A request that cannot be turned into tokens; says what is wrong and how to fix it."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class RefusedError(WordingError):
    """A chat that a template does not accept as it is."""


class Shape(NamedTuple):
    """The properties by which a template accepts a chat: its roles, and whether the assistant is to continue."""

    roles: tuple[str, ...]
    is_open: bool


class ChatTemplate:
    """A chat template or a meta template that renders each chat completely or not at all."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._ways: dict[Shape, Way] = {}

    def text(self, messages: Sequence[Message], is_open: bool) -> str:
        """The text of a chat; if it is open, up to where the assistant continues. Raises WordingError."""
        said = without_empty_answer(messages) if is_open else list(messages)
        asked = self._way(said, is_open)(said)
        text = self._whole(asked, is_open)
        _check_nothing_is_lost(asked, text)
        return text

    def check(self, shape: ChatShape) -> None:
        """Raise WordingError for chats of a shape that the template does not render completely."""
        self.example(shape)

    def example(self, shape: ChatShape) -> str:
        """The text of a chat of a shape, with marks in the place of the messages' texts. Raises WordingError."""
        return self.text(_marked(shape.roles, shape.begun), shape.is_open)

    def changes(self, messages: list[Message], is_open: bool) -> bool:
        """Whether `text` differs from the template's own output for a chat. Raises WordingError."""
        return self._render(messages, is_open) != self.text(messages, is_open)

    def notes(self) -> list[str]:
        """Notes for the user on the way in which the chats so far were rendered."""
        notes = [note for way, note in NOTES.items() if way in self._ways.values()]
        if any(shape.is_open and shape.roles[-1] != "assistant" for shape in self._ways):
            notes += self._unopened()
        return notes

    def turn_end(self, special: Iterable[str], ends: Collection[str]) -> str:
        """The special token with which the template closes an answer; empty if it has none or writes one of the `ends`.

        Configs of some models (Gemma 1.1's, many GGUF files) only name the token that ends a text: their answers would
        go on with the user's next turn. A token that only closes earlier answers may close thoughts, too (gpt-oss).
        """
        user, answer, another = _marked(("user", "assistant", "user"))
        after = last = ""
        with suppress(WordingError):
            wholes = [self._render([user, answer, *more], False) for more in ([another], [])]
            after, last = (whole.partition(answer.content)[2].lstrip() for whole in wholes)
        after = after.partition(another.content)[0]
        if any(end in after for end in ends):
            return ""
        closing = [token for token in special if token and after.startswith(token)]
        return max((token for token in closing if not last or last.startswith(token)), key=len, default="")

    def unsaid_header(self) -> str:
        """What the template writes before an answer besides what an open chat ends with; an empty text if nothing."""
        opened, before = self._before_answer()
        header = before.removeprefix(opened) if before.startswith(opened) else ""
        return header if header.strip() else ""

    def _before_answer(self) -> tuple[str, str]:
        """A question that is open for the answer, and what is before the answer in the whole chat."""
        user, answer = _marked(("user", "assistant"))
        try:
            return self._render([user], True), self._render([user, answer], False).partition(answer.content)[0]
        except WordingError:
            return "", ""

    def _way(self, messages: list[Message], is_open: bool) -> Way:
        """The change to make to chats like this one. Raises WordingError."""
        shape = Shape(tuple(message.role for message in messages), is_open)
        if shape not in self._ways:
            begun = messages[-1].content if is_open and messages[-1].role == "assistant" else ""
            self._ways[shape] = self._first_that_does(shape, _marked(shape.roles, begun))
        return self._ways[shape]

    def _first_that_does(self, shape: Shape, marked: list[Message]) -> Way:
        refusal: RefusedError | None = None
        for way in _ways(shape.roles):
            try:
                self._check(way(marked), shape)
                return way
            except RefusedError as error:
                refusal = refusal or error
        assert refusal is not None  # there is always a first way
        raise refusal

    def _check(self, marked: list[Message], shape: Shape) -> None:
        """Raise RefusedError if the template refuses or drops one of the messages."""
        text = self._whole(marked, shape.is_open).casefold()
        for message in marked:
            if any(mark.casefold() not in text for mark in message.content.split()):
                what = f"the chat template drops the message of the {message.role}{_of(shape.roles)}"
                raise RefusedError(what, MESSAGES)

    def _whole(self, messages: list[Message], is_open: bool) -> str:
        text, last = self._render(messages, is_open), messages[-1]
        begun = is_open and last.role == "assistant"
        if begun and not text.rstrip().endswith(last.content.strip()):
            what = f"the chat template does not end with the beginning of the answer, {last.content!r}"
            raise RefusedError(what, _WITHOUT_BEGINNING)
        return text

    def _unopened(self) -> Iterator[str]:
        """The note on a template that writes a header before the assistant's messages, but does not end with it."""
        [user] = _marked(["user"])
        opened, before = self._before_answer()
        if not opened or opened != self._render([user], False) or before.strip() == opened.strip():
            return
        end = opened.rpartition(user.content)[2]
        note = f"its chat template does not open the answer (it has no add_generation_prompt): prompts end with {end!r}"
        header = before.removeprefix(opened)
        yield note + f", and the model must write {header!r} itself" * before.startswith(opened)


_WITHOUT_BEGINNING = "leave the assistant's last message out of the data set's chat, or give the model a meta_template"


def as_said(messages: Sequence[Message]) -> list[Message]:
    """The messages unchanged."""
    return list(messages)


def joined(messages: Sequence[Message]) -> list[Message]:
    """The messages, with the system messages at the beginning joined into one."""
    count = _systems([message.role for message in messages])
    return [Message(role="system", content=_paragraphs(messages[:count])), *messages[count:]]


def merged(messages: Sequence[Message]) -> list[Message]:
    """The messages, with the system messages at the beginning merged into the first user message."""
    roles = [message.role for message in messages]
    count, user = _systems(roles), roles.index("user")
    first = Message(role="user", content=_paragraphs([*messages[:count], messages[user]]))
    return [*messages[count:user], first, *messages[user + 1 :]]


NOTES: dict[Way, str] = {joined: ONE_SYSTEM, merged: NO_SYSTEM}


def _check_nothing_is_lost(messages: Sequence[Message], text: str) -> None:
    """Raise RefusedError if a part of a message is missing in the text, apart from white space and case.

    Some templates cut long messages. Thoughts may be missing in earlier answers, as reasoning models are trained so;
    and so may the words of a system message that are a switch for the template.
    """
    rendered = _squeezed(text)
    for number, message in enumerate(messages, 1):
        content = SWITCH_WORD.sub("", message.content) if message.role == "system" else message.content
        if _squeezed(message.content) in rendered or _squeezed(content) in rendered:
            continue
        earlier = message.role == "assistant" and number < len(messages)
        answer = without_thoughts(message.content) if earlier else None
        if answer is None or _squeezed(answer) not in rendered:
            roles = _of([message.role for message in messages])
            raise RefusedError(f"the chat template drops a part of a message of the {message.role}{roles}", MESSAGES)


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


def _ways(roles: Sequence[str]) -> Iterator[Way]:
    """The possible changes to a chat, the best one first."""
    yield as_said
    if _systems(roles) > 1:
        yield joined
    if _systems(roles) and "user" in roles:
        yield merged


def _systems(roles: Sequence[str]) -> int:
    """The number of system messages at the beginning."""
    return next((number for number, role in enumerate(roles) if role != "system"), len(roles))


def _paragraphs(messages: Sequence[Message]) -> str:
    """The texts of messages with blank lines between them; the last keeps its white space."""
    *first, last = [message.content for message in messages]
    return "\n\n".join([*(text for content in first if (text := content.rstrip())), last])


def _marked(roles: Sequence[str], begun: str = "") -> list[Message]:
    """A chat of these roles, in which each message is a mark; `begun`, if given, replaces the last mark."""
    marks = [MARK.replace("0", str(number)) for number in range(len(roles))]
    if begun:
        marks[-1] = begun
    return [Message(role=role, content=mark) for role, mark in zip(roles, marks, strict=True)]


def _of(roles: Sequence[str]) -> str:
    named = ", ".join(roles[:SHOWN_ROLES]) + (f" and {len(roles) - SHOWN_ROLES} more" * (len(roles) > SHOWN_ROLES))
    return f" (of {named})"


def by_transformers(apply: Callable[..., str], day: str, switch: str = "") -> Render:
    """A model's own chat template, rendered by `apply` like a tokenizer's apply_chat_template; `day` is today.

    `switch` is what the system message must say besides.
    """
    today = datetime.fromisoformat(day)

    @cache
    def in_parts() -> bool:
        """Whether the template takes contents as lists of parts only, as some for images do."""
        for content in (MARK, _parts(MARK)):
            with suppress(Exception):  # a template is a program and may raise any exception
                if MARK in str(apply([{"role": "user", "content": content}], add_generation_prompt=True)):
                    return content != MARK
        return False

    def render(messages: list[Message], is_open: bool) -> str:
        begun = messages[-1].role == "assistant"
        how = {"add_generation_prompt": is_open and not begun, "continue_final_message": is_open and begun}
        asked = to_json(_with_switch(messages, switch) if switch else messages)
        try:
            with bounded_steps() as step, step.at("the model's chat template"), today_is(today):
                if in_parts():
                    asked = [{**message, "content": _parts(message["content"])} for message in asked]
                return str(apply(asked, **how))
        except BoundError as error:
            raise WordingError(f"the chat template cannot be rendered: {error.what}", ANOTHER) from error
        except TemplateSyntaxError as error:
            what = f"the chat template is not valid: line {error.lineno}: {error.message}"
            raise WordingError(what, ANOTHER) from error
        except Exception as error:  # a template is a program and may raise any exception
            if "continue_final_message is set" in str(error):  # it shows the whole chat
                what = f"the chat template drops the beginning of the answer, {messages[-1].content!r}"
                raise RefusedError(what, _WITHOUT_BEGINNING) from error
            roles = _of([message.role for message in messages])
            raise RefusedError(f"the chat template refuses its messages: {error}{roles}", REFUSED) from error

    return render


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _with_switch(messages: Sequence[Message], switch: str) -> list[Message]:
    """The messages with a switch at the end of the system message, which may be added."""
    system = [Message(role="system", content=switch)]
    if messages[0].role != "system":
        return [*system, *messages]
    return [Message(role="system", content=_paragraphs([messages[0], *system])), *messages[1:]]


@contextmanager
def today_is(day: datetime) -> Iterator[None]:
    """A block in which chat templates get this day as today's date: otherwise each day would give other requests.

    transformers has no argument for it, and reads its clock as `datetime.now()`. A test checks this.
    """
    from transformers.utils import chat_template_utils

    clock: Any = chat_template_utils.datetime
    chat_template_utils.datetime = SimpleNamespace(now=lambda: day)
    try:
        yield
    finally:
        chat_template_utils.datetime = clock


def by_meta_template(meta: MetaTemplate, messages: list[Message], is_open: bool) -> str:
    """The text of a chat; if it is open, up to where the assistant continues. Raises WordingError."""
    parts = [meta.begin]
    turns = {str(role): turn for role, turn in meta.round.items()}
    for message in messages:
        turn = turns.get(message.role)
        if turn is None:
            known = ", ".join(meta.round)
            fix = f"add {message.role} to meta_template.round in the model's file (it has {known})"
            raise RefusedError(f"its meta template has no role {message.role}", fix)
        parts += [turn.begin, message.content, turn.end]
    if not is_open:
        return "".join(parts) + meta.end
    if messages[-1].role == "assistant":
        return "".join(parts[:-1])
    return "".join(parts) + meta.round["assistant"].begin
