"""The context of a row's request, a text or a chat, with worked examples before the question."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

from shardmark.records.request import Context, Message
from shardmark.tasks.requests import as_text
from shardmark.untrusted.templates import Template

LITERAL = re.compile(r"[^{]*")
"The text of a template before its first tag."
Values = dict[str, Any]


class TextContext:
    """A prompt as text; examples are prompts with their answers, put before it."""

    def __init__(self, preamble: Template, prompt: Template, separator: str) -> None:
        self.preamble, self.prompt, self.separator = preamble, prompt, separator
        self.names = prompt.names
        self.reads = prompt.names | preamble.names
        "The names that a prompt depends on, together with those of its preamble."

    def __call__(self, values: Values, examples: Sequence[str] = ()) -> Context:
        """The prompt of a row after the preamble and examples."""
        return self.preamble(values) + "".join(examples) + self.prompt(values)

    def example(self, values: Values, answer: str) -> str:
        """The text that an example adds to a prompt."""
        return self.prompt(values) + answer + self.separator

    def query(self, values: Values) -> str:
        """The text for comparing the question with others."""
        return self.prompt(values)

    def head(self, examples: Sequence[str]) -> int:
        """The number of characters that all prompts begin with, if all have these examples."""
        preamble, prompt = (LITERAL.match(part.source)[0] for part in (self.preamble, self.prompt))  # type: ignore[index]
        return len(preamble) + (len("".join(examples) + prompt) if preamble == self.preamble.source else 0)


class ChatContext:
    """A chat: system messages come first, then the turns of the examples, then those of the question."""

    def __init__(self, messages: Sequence[tuple[str, Template]]) -> None:
        self._system = list(itertools.takewhile(lambda message: message[0] == "system", messages))
        self._turns = list(messages)[len(self._system) :]
        self.names = self.reads = set().union(*(template.names for _, template in messages))

    def __call__(self, values: Values, examples: Sequence[list[Message]] = ()) -> Context:
        """The chat about a row after examples."""
        return [*self.system(values), *itertools.chain(*examples), *self.turns(values)]

    def system(self, values: Values) -> list[Message]:
        """The system messages, which come first."""
        return _said(self._system, values)

    def turns(self, values: Values) -> list[Message]:
        """The question's own turns."""
        return _said(self._turns, values)

    def example(self, values: Values, answer: str) -> list[Message]:
        """The turns of an example; the assistant gives the answer, or completes the beginning of one."""
        turns = self.turns(values)
        if turns[-1].role == "assistant":
            return [*turns[:-1], Message(role="assistant", content=turns[-1].content + answer)]
        return [*turns, Message(role="assistant", content=answer)]

    def query(self, values: Values) -> str:
        """The text for comparing the question with others."""
        return "\n".join(message.content for message in self.turns(values))

    def head(self, examples: Sequence[list[Message]]) -> int:
        """The number of characters that all chats begin with, if all have these examples."""
        if any("{" in template.source for _, template in self._system):
            return 0
        return len(as_text([*self.system({}), *itertools.chain(*examples)]))


class OneTurnContext:
    """A chat whose examples are in the question's own message, before the question."""

    def __init__(self, messages: Sequence[tuple[str, Template]], separator: str) -> None:
        self._chat, self._separator = ChatContext(messages), separator
        self.names = self.reads = self._chat.names

    def __call__(self, values: Values, examples: Sequence[str] = ()) -> Context:
        """The chat about a row, whose first turn begins with the examples."""
        system, (first, *rest) = self._chat.system(values), self._chat.turns(values)
        return [*system, Message(role=first.role, content="".join(examples) + first.content), *rest]

    def example(self, values: Values, answer: str) -> str:
        """The text that an example adds to the question's message; at most one space before the answer."""
        asked = self.query(values)
        return asked + (answer.lstrip(" ") if asked.endswith(" ") else answer) + self._separator

    def query(self, values: Values) -> str:
        """The text for comparing the question with others."""
        return self._chat.query(values)

    def head(self, examples: Sequence[str]) -> int:
        """The number of characters that all chats begin with, if all have these examples."""
        return self._chat.head([[Message(role="user", content="".join(examples))]])


def _said(messages: Sequence[tuple[str, Template]], values: Values) -> list[Message]:
    return [Message(role=role, content=template(values)) for role, template in messages]
