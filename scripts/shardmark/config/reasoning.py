"""A model's settings for thoughts before its answers, and the switches of chat templates for them."""

import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt

from shardmark.settings import Settings
from shardmark.texts.thoughts import HARMONY, Tags, tags_to_name

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"The efforts that OpenAI's API knows; a chat template or a model may support fewer."
Word = Literal["on", "off", Effort]
EFFORTS: tuple[str, ...] = get_args(Effort)
GPT_OSS_EFFORTS = ("low", "medium", "high")
"The efforts that gpt-oss knows; its template writes any."
NO_THOUGHTS = ("off", "none")
OFF_EFFORT = re.compile("""(['"])(?P<effort>none|no_think)\\1""")
"The effort without thoughts in a template without another switch, such as Mistral Small 4's and Hy3's."
EFFORT = "reasoning_effort"
BUDGET = "thinking_budget"
SWITCHES: dict[str, dict[str, Any]] = {
    **{name: {"on": True, "off": False} for name in ("enable_thinking", "thinking", "reasoning")},
    "thinking_mode": {"on": "enabled", "off": "disabled"},
    "thinking_option": {"on": "on", "off": "off"},
    BUDGET: {"on": -1, "off": 0},
    **{name: {effort: effort for effort in EFFORTS} for name in (EFFORT, "thinking_effort")},
    **{f"{effort}_effort": {effort: True} for effort in ("low", "medium")},
}
"Arguments of chat templates (of Qwen, GLM, Granite, DeepSeek, Command, MiniMax, Ling, Seed-OSS, ...), and values."
SPOKEN = {"on": "/think", "off": "/no_think"}
"Words by which Nemotron's templates are told in a system message; they leave them out of the prompt."
GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"A tag of transformers that jinja does not know."


NO_SWITCH = "reasoning is {}, but the chat template has no such switch"
DROP_SWITCH = (
    f"drop it, or set in chat_template_kwargs what the template reads (known are {', '.join(SWITCHES)}), or in "
    "system_instruction what the model's card says"
)

NO_TAGS = "it is unknown how it marks its thoughts: neither its chat template nor its tokenizer has known marks"


def give_tags(template: str) -> str:
    """How to name the marks of thoughts of a model with this chat template."""
    tags = json.dumps(tags) if (tags := tags_to_name(template)) else "[OPENING, CLOSING], such as [<think>, </think>]"
    return f"add reasoning_tags: {tags}"


class ReasoningBudget(Settings):
    """How much a model may think."""

    budget: PositiveInt
    "Tokens of a thought, after which its closing mark is written; they do not count towards the limit of the answer."


def _word(value: object) -> object:
    """Undo YAML's reading of on and off as booleans."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def _differ(tags: Tags) -> Tags:
    if tags[0].strip() == tags[1].strip():
        raise ValueError("the opening and the closing mark are the same")
    return tags


Reasoning = Annotated[
    Word | ReasoningBudget, BeforeValidator(_word, json_schema_input_type=bool | Word | ReasoningBudget)
]
Text = Annotated[str, Field(min_length=1)]
ReasoningTags = Annotated[tuple[Text, ...], Field(min_length=2, max_length=3), AfterValidator(_differ)]


def switch(reasoning: Word | ReasoningBudget | None, template: str) -> dict[str, Any] | None:
    """The arguments of a chat template that make a model reason as its file says; None if the template has none.

    A budget turns reasoning on if the template can, and otherwise changes nothing; Seed-OSS's is told the tokens. An
    effort also sets the switch of a template that has both, as DeepSeek-V4's ignores it while reasoning is off; for
    `none`, which GLM-5.2's and Qwen3.8's do not know, only the switch is set. Without a switch, `off` is an effort.
    """
    if reasoning is None:
        return {}
    word = "on" if isinstance(reasoning, ReasoningBudget) else reasoning
    variables = variables_of(template)
    switches = [name for name, values in SWITCHES.items() if name in variables and "on" in values]
    levels = [name for name, values in SWITCHES.items() if name in variables and "on" not in values and word in values]
    if HARMONY[0] in template and word not in GPT_OSS_EFFORTS:
        levels = []
    elif word in NO_THOUGHTS and not switches and EFFORT in variables and (found := OFF_EFFORT.search(template)):
        return {EFFORT: found["effort"]}
    arguments = {name: SWITCHES[name][word] for name in levels[:1] if not (switches and word in NO_THOUGHTS)}
    if switches and (levels or word in ("on", *NO_THOUGHTS)):
        name, state = switches[0], "off" if word in NO_THOUGHTS else "on"
        value = SWITCHES[name][state]
        if isinstance(value, str) and value not in template:  # thinking_mode of Baichuan-M2 is on or off
            value = state
        arguments[name] = reasoning.budget if name == BUDGET and isinstance(reasoning, ReasoningBudget) else value
    if arguments:
        return arguments
    return {} if isinstance(reasoning, ReasoningBudget) or spoken_switch(reasoning, template) else None


def spoken_switch(reasoning: Word | ReasoningBudget | None, template: str) -> str:
    """What a system message must say so that a model reasons as its file says; empty for most templates."""
    if SPOKEN["off"] not in template or not variables_of(template).isdisjoint(SWITCHES):
        return ""
    if isinstance(reasoning, ReasoningBudget):
        return SPOKEN["on"]
    return SPOKEN.get("off" if reasoning in NO_THOUGHTS else str(reasoning), "")


def variables_of(template: str) -> set[str]:
    """The variables that a template reads; none if it cannot be parsed."""
    from jinja2 import TemplateError

    from shardmark.untrusted.templates import names_read

    try:
        return names_read(GENERATION.sub("", template), "jinja2.ext.loopcontrols")
    except (TemplateError, RecursionError):
        return set()


def contradictions(reasoning: Word | ReasoningBudget | None, given: dict[str, Any]) -> Iterable[str]:
    """The arguments among those `given` to chat templates that contradict the setting."""
    if reasoning is None:
        return []
    switches = {name: values for name, values in SWITCHES.items() if name in given}
    word = "on" if isinstance(reasoning, ReasoningBudget) else reasoning
    if BUDGET in switches and isinstance(reasoning, ReasoningBudget):
        switches[BUDGET] = {"on": reasoning.budget}
    return [name for name, values in switches.items() if _contradicts(given[name], values, word)]


def _contradicts(value: object, values: dict[str, Any], word: Word) -> bool:
    """Whether the value of a switch, which has these `values` for each word, says something other than a word."""
    if word in values:
        return value != values[word]
    if word == "none":  # a switch without levels
        return "off" in values and value != values["off"]
    if word in EFFORTS:
        return "off" in values and value == values["off"]
    return word == "off"
