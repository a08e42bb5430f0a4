"""How the documents of a task are put to a model: as one text, or as a chat, by lm-eval's options of these names."""

from collections.abc import Sequence
from typing import NamedTuple

from shardmark.config import RunConfig
from shardmark.config.lm_eval import LmEvalConfig
from shardmark.records import request


class Message(NamedTuple):
    """A part of a context, by its speaker."""

    role: str
    content: str
    delimiter: str = ""
    "What follows it in plain text."

    @property
    def text(self) -> str:
        """The message in plain text."""
        return self.content + self.delimiter

    @property
    def said(self) -> request.Message:
        """The message in a chat."""
        return request.Message(role=self.role, content=self.content)


class Style(NamedTuple):
    """The options."""

    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    "Examples are turns of their own."
    system_instruction: str = ""

    def context(self, messages: Sequence[Message]) -> request.Context:
        """The context that messages make: a text, a chat, or a chat of one question with all before it."""
        if not self.apply_chat_template:
            return text_of(messages)
        if self.fewshot_as_multiturn:
            return [message.said for message in messages]
        system = [message for message in messages if message.role == "system"]
        begun = [message for message in messages[-1:] if message.role == "assistant"]
        asked = messages[len(system) : len(messages) - len(begun)]
        question = [Message("user", text_of(asked[:-1]) + asked[-1].content)] if asked else []
        return [message.said for message in (*system, *question, *begun)]


def style_of(config: LmEvalConfig, run: RunConfig | None) -> Style:
    """The style of a data set; what its file does not say, the run does."""
    run = run or RunConfig()
    own = {key: getattr(config, key) for key in Style._fields}
    return Style(**{key: getattr(run, key) if value is None else value for key, value in own.items()})


def text_of(messages: Sequence[Message]) -> str:
    """Messages in plain text."""
    return "".join(message.text for message in messages)
