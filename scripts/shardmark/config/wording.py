"""Models whose requests are worded and tokenized here: how chats become texts, and how thoughts are marked."""

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, ValidationInfo, model_validator

from shardmark.config.model import ModelConfig
from shardmark.config.reasoning import (
    NO_THOUGHTS,
    SWITCHES,
    Reasoning,
    ReasoningBudget,
    ReasoningTags,
    contradictions,
    spoken_switch,
    switch,
)
from shardmark.settings import AS_WRITTEN, Settings

SIDES = {"padding_side", "truncation_side", "truncation"}
"tokenizer_kwargs without effect: the engine pads and truncates by itself, and always truncates on the left."
TEMPLATE_DATE = "2024-07-26"
"The date in Llama's templates if there is no clock."
SET_HERE = frozenset(
    [
        "messages",
        "conversation",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "return_tensors",
        "return_dict",
        "padding",
        "truncation",
        "max_length",
        "tokenizer_kwargs",
        "return_assistant_tokens_mask",
        "sanitize_control_tokens",
    ]
)
"Arguments of apply_chat_template that are not variables of a template."


class Turn(Settings):
    """The text around a message."""

    begin: str = ""
    "Text before the message."
    end: str = ""
    "Text after the message."


class MetaTemplate(Settings):
    """How a chat becomes a text for a model without its own chat template."""

    begin: str = ""
    "Text before the first message."
    round: dict[Literal["system", "user", "assistant"], Turn]
    "The text around the messages of each role; the answer is written after the assistant's `begin`."
    end: str = ""
    "Text after the last message, if the whole chat is scored."

    @model_validator(mode="after")
    def _speaks(self, info: ValidationInfo) -> "MetaTemplate":
        if info.context == AS_WRITTEN:
            return self
        if missing := [role for role in ("user", "assistant") if role not in self.round]:
            raise ValueError(f"round has no {' and no '.join(missing)}: each role needs begin and end")
        return self


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError("not a date such as 2026-11-30") from None


class WordedConfig(ModelConfig):
    """A model whose requests are worded here, and tokenized if its tokenizer is available."""

    tokenizer_path: str | None = None
    "Folder or Hub id of the tokenizer, if it is not beside the weights."
    max_seq_len: PositiveInt | None = None
    "The window in tokens (prompt and output); the model's own if null."
    meta_template: MetaTemplate | None = None
    "How a chat becomes a text, if the tokenizer has no chat template, or to replace it."
    chat_template_kwargs: dict[str, Any] = Field(default={})
    "Passed on to the tokenizer's chat template, e.g. {enable_thinking: false}."
    template_date: Annotated[str, AfterValidator(_date)] = TEMPLATE_DATE
    "The date that chat templates get when they ask for today's (`strftime_now`), as YYYY-MM-DD in quotes."
    reasoning: Reasoning | None = None
    "on, off or an effort such as low, by the chat template's own argument; or {budget: TOKENS} for a thought."
    reasoning_tags: ReasoningTags | None = None
    "The marks that open and close thoughts, such as [<think>, </think>], and one that ends answers; null: found."
    long_answers: bool = False
    "Apply max_out_len also if a data set asks for fewer tokens: for models that reason at length."
    reasoning_tokens: PositiveInt | None = None
    "How many tokens of thoughts do not count towards the limit of an answer."
    tokenizer_kwargs: dict[str, Any] = Field(default={})
    "Passed on to AutoTokenizer.from_pretrained."
    trust_remote_code: bool = False
    "Run Python code that comes with the weights. Only for sources you trust."

    @property
    def tells_of_reasoning(self) -> bool:
        """Whether its file has settings for thoughts; they are then removed before any filter."""
        return any(value is not None for value in (self.reasoning, self.reasoning_tags, self.reasoning_tokens))

    def template_text(self, own: str | dict[str, str] | None) -> str:
        """The chat template that is rendered, given the tokenizer's `own`; empty if there is none."""
        given = self.tokenizer_kwargs.get("chat_template") or own
        named = self.chat_template_kwargs.get("chat_template")
        if isinstance(given, dict):
            usual = "tool_use" if self.chat_template_kwargs.get("tools") and "tool_use" in given else "default"
            given = given.get(named or usual, named)
        elif named:
            given = named
        return "" if self.meta_template else str(given or "")

    def switch(self, own: str | dict[str, str] | None) -> dict[str, Any] | None:
        """The arguments that make the chat template reason as the file says; None if it has none."""
        return {} if self.meta_template else switch(self.reasoning, self.template_text(own))

    def spoken_switch(self, own: str | dict[str, str] | None) -> str:
        """What a system message must say for the chat template to reason as the file says; empty for most."""
        return spoken_switch(self.reasoning, self.template_text(own))

    def template_arguments(self, own: str | dict[str, str] | None) -> dict[str, Any]:
        """The arguments for the chat template, given the tokenizer's `own` templates."""
        return self.chat_template_kwargs | (self.switch(own) or {})

    def answer_tokens(self, asked: int) -> int:
        """The most tokens of an answer if a data set asks for `asked`."""
        return self.max_out_len if asked and self.long_answers and self.max_out_len else super().answer_tokens(asked)

    @property
    def thought_tokens(self) -> int:
        """How many tokens of thoughts do not count towards the limit of an answer."""
        if isinstance(self.reasoning, ReasoningBudget):
            return self.reasoning.budget
        return self.reasoning_tokens or 0

    def identity(self) -> dict[str, Any]:
        """The settings that can change the wording and tokens of a request, or the length of its answer."""
        answers: dict[str, Any] = {
            "max_seq_len": self.max_seq_len,
            "max_out_len": self.max_out_len,
            "tokenizer_kwargs": {k: v for k, v in self.tokenizer_kwargs.items() if k not in SIDES},
        }
        written = self.model_dump()
        for key in ("meta_template", "chat_template_kwargs"):  # only where there is one, so that other digests stay
            if written[key]:
                answers[key] = written[key]
        if self.long_answers:
            answers["long_answers"] = True
        if self.template_date != TEMPLATE_DATE:
            answers["template_date"] = self.template_date
        for key in ("reasoning", "reasoning_tags", "reasoning_tokens"):
            if written[key] is not None:
                answers[key] = written[key]
        return answers

    @model_validator(mode="after")
    def _check_wording(self, info: ValidationInfo) -> Self:
        if info.context == AS_WRITTEN:
            return self
        if self.meta_template and self.chat_template_kwargs:
            raise ValueError("chat_template_kwargs has no effect: meta_template replaces the chat template")
        if self.meta_template and self.template_date != TEMPLATE_DATE:
            raise ValueError("template_date has no effect: meta_template replaces the chat template")
        self._check_reasoning()
        for key, value in self.chat_template_kwargs.items():
            is_switch = any(state is True for state in SWITCHES.get(key, {}).values())
            if is_switch and not isinstance(value, bool) and str(value).lower() in ("true", "false", "0", "1"):
                raise ValueError(f"chat_template_kwargs.{key} is {value!r}: write true or false, without quotes")
        if given := sorted(SET_HERE & self.chat_template_kwargs.keys()):
            raise ValueError(
                f"chat_template_kwargs: {', '.join(given)}: cannot be set, as it follows from the data set"
            )
        for key in ("truncation", "truncation_side"):
            if self.tokenizer_kwargs.get(key) == "right":
                raise ValueError(f"tokenizer_kwargs.{key} is right, but prompts are always cut on the left: drop it")
        return self

    def _check_reasoning(self) -> None:
        """Raise ValueError for settings of reasoning that contradict each other."""
        if self.long_answers and not self.max_out_len:
            raise ValueError("long_answers has no effect: add max_out_len, the tokens of an answer")
        budget = isinstance(self.reasoning, ReasoningBudget)
        for key in contradictions(self.reasoning, self.chat_template_kwargs):
            raise ValueError(f"chat_template_kwargs.{key} contradicts reasoning: keep one")
        if self.meta_template and self.reasoning is not None and not budget:
            raise ValueError("reasoning has no effect: meta_template replaces the chat template")
        if self.reasoning_tokens and budget:
            raise ValueError("reasoning_tokens has no effect: the budget's tokens do not count towards any limit")
        if self.reasoning_tokens and self.reasoning in NO_THOUGHTS:
            raise ValueError(f"reasoning_tokens has no effect: reasoning is {self.reasoning}")
