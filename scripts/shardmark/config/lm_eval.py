"""Data sets that are tasks of lm-evaluation-harness, used as they are."""

from pydantic import Field, NonNegativeInt, model_validator

from shardmark.config.base import Chat
from shardmark.settings import Settings

PREFIX = "lm_eval:"
"In a run's `datasets`, what stands before the name of a task, group or tag, or a glob."


class LmEvalConfig(Settings):
    """A data set file that names tasks of lm-evaluation-harness instead of describing one."""

    description: str = ""
    "One line for the report."
    lm_eval: str | None = None
    "A task, group, tag or glob among the tasks of `lm_eval_path`, e.g. arc_easy or mmlu."
    task_path: str | None = None
    "A YAML file of your own in lm-eval's format, instead of lm_eval."
    num_fewshot: NonNegativeInt | None = None
    "How many examples, unless the run says it or the task itself says 0; null: as the task."
    apply_chat_template: Chat | None = None
    "Ask in chats, which each model puts into words of its own; auto: the models with a template for them."
    fewshot_as_multiturn: bool | None = None
    "In a chat, examples are turns of their own, as lm-eval does by default; false: they stand before the question."
    system_instruction: str | None = None
    "What stands before all else, in a chat as the system's message."
    chance: float | None = Field(None, ge=0, le=1)
    "What guessing scores; shown in the report."

    @model_validator(mode="after")
    def _one_source(self) -> "LmEvalConfig":
        if (self.lm_eval is None) == (self.task_path is None):
            raise ValueError("give exactly one of lm_eval and task_path")
        return self
