"""Data sets that are tasks of lm-evaluation-harness, used as they are."""

from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, model_validator

from shardmark.config.base import Chat
from shardmark.settings import Settings

PREFIX = "lm_eval:"
"The prefix of a task, group, tag or glob of lm-eval's in a run's `datasets`."
Numbers = Annotated[list[NonNegativeInt], Field(min_length=1)]


class LmEvalConfig(Settings):
    """A data set file that names tasks of lm-evaluation-harness instead of describing one."""

    description: str = ""
    "One line for the report."
    lm_eval: str | None = None
    "A task, group, tag or glob among the tasks of `lm_eval_path`, e.g. arc_easy or mmlu."
    task_path: str | None = None
    "A YAML file of your own in lm-eval's format, instead of lm_eval."
    num_fewshot: NonNegativeInt | None = None
    "How many examples, unless the run gives a number or the task itself has 0; null: as the task says."
    apply_chat_template: Chat | None = None
    "Ask in chats, worded by each model's own template; auto: the models with a template for them."
    fewshot_as_multiturn: bool | None = None
    "In a chat, examples are separate turns, lm-eval's default; false: they come before the question."
    system_instruction: str | None = None
    "Text before everything else; in a chat, the system's message."
    samples: dict[str, Numbers] = Field(default={})
    "Only these documents of a task, numbered from 0 as in lm-eval's --samples, e.g. {arc_easy: [0, 3]}; else all."
    metadata: dict[str, Any] = Field(default={})
    "More metadata for tasks that generate their rows, e.g. {tokenizer: org/model, max_seq_lengths: [4096]}."
    chance: float | None = Field(None, ge=0, le=1)
    "The expected score of guessing; shown in the report."

    @model_validator(mode="after")
    def _one_source(self) -> "LmEvalConfig":
        if (self.lm_eval is None) == (self.task_path is None):
            raise ValueError("give exactly one of lm_eval and task_path")
        return self
