"""Styles of a task's documents for a model: as one text, or as a chat, by lm-eval's options of these names."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from shardmark.config import RunConfig
from shardmark.config.lm_eval import LmEvalConfig
from shardmark.records import request
from shardmark.tasks.lm_eval.fewshot import SEED


class Message(NamedTuple):
    """A part of a context, with its role."""

    role: str
    content: str
    delimiter: str = ""
    "The text that follows it in plain text."

    @property
    def text(self) -> str:
        """The message in plain text."""
        return self.content + self.delimiter

    @property
    def said(self) -> request.Message:
        """The message in a chat."""
        return request.Message(role=self.role, content=self.content)


class Style(NamedTuple):
    """lm-eval's options for contexts."""

    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    "Whether examples are turns of their own."
    system_instruction: str = ""
    fewshot_seed: int = SEED
    "The seed of the random numbers that draw examples."

    def described(self) -> dict[str, Any]:
        """The options as JSON; a seed only if it differs from lm-eval's."""
        told = self._asdict()
        return told if self.fewshot_seed != SEED else {key: told[key] for key in told if key != "fewshot_seed"}

    def context(self, messages: Sequence[Message]) -> request.Context:
        """The context of messages: a text, a chat, or a chat with everything before the answer in one question."""
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
    """The style of a data set, as a text; settings that the run does not give come from its file."""
    run = run or RunConfig()
    levels = {key: (getattr(run, key), getattr(config, key)) for key in ("fewshot_as_multiturn", "system_instruction")}
    levels["fewshot_seed"] = (run.fewshot_seed, None)
    given = {key: [value for value in values if value is not None] for key, values in levels.items()}
    return Style(**{key: values[0] for key, values in given.items() if values})


def text_of(messages: Sequence[Message]) -> str:
    """Messages in plain text."""
    return "".join(message.text for message in messages)
