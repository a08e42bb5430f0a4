"""How data sets are asked: a run's overrides of their files, and the form of prompts in a chat.

A data set as it is asked is again a data set, with nothing left open. So writing the same chat into a file by hand asks
the same, and gives the same scores.
"""

import json
from dataclasses import replace
from typing import Any

from shardmark.config.base import Chat, validate
from shardmark.config.dataset import DatasetConfig, Generation, Message
from shardmark.config.few_shot import FewShot
from shardmark.config.lm_eval import LmEvalConfig
from shardmark.config.model import ModelConfig
from shardmark.config.run import OF_LM_EVAL, RunConfig
from shardmark.errors import Problem, UserError

BETWEEN = "\n\n"
"The text between a run's instruction and the prompt that follows."


def chat_wanted(run: RunConfig, dataset: DatasetConfig | LmEvalConfig, model: ModelConfig | None) -> Chat:
    """Whether a model is asked a data set in a chat: the first file that says it decides; a chat alone says it, too."""
    own = dataset.apply_chat_template
    if isinstance(dataset, DatasetConfig):
        if dataset.kind == "rolling":
            return False
        own = True if own is None and dataset.prompt is None else own
    given = (run.apply_chat_template, own, model.apply_chat_template if model else None)
    return next((value for value in given if value is not None), bool(model and model.asks_chats))


def as_asked(dataset: DatasetConfig, run: RunConfig, chat: bool, where: str) -> DatasetConfig:
    """The data set as a run asks it, as a chat or as a text. Raises UserError.

    `where` is the data set's file.
    """
    problems: list[Problem] = []
    changes: dict[str, Any] = dict.fromkeys(("apply_chat_template", "fewshot_as_multiturn", "system_instruction"))
    shots = changes["few_shot"] = _few_shot(dataset, run, where, problems)
    changes["generation"] = _generation(dataset, run, where, problems)
    instruction = dataset.system_instruction if run.system_instruction is None else run.system_instruction
    if chat:
        changes |= _as_chat(dataset, instruction or "", where, problems)
        turns = dataset.fewshot_as_multiturn if run.fewshot_as_multiturn is None else run.fewshot_as_multiturn
        if shots and turns is False:
            changes["fewshot_as_multiturn"] = False
            if next(message.role for message in changes["messages"] if message.role != "system") != "user":
                what = "false would put the examples into the first message, which is the assistant's"
                fix = "drop it, or begin the messages with the user's"
                problems.append(Problem(where, "fewshot_as_multiturn", what, fix))
        if shots and dataset.prompt is not None:
            changes["few_shot"] = shots.model_copy(update={"answer": _answer(dataset, shots, turns is not False)})
    else:
        changes |= _as_text(dataset, instruction or "", where, problems)
    asked = dataset.model_copy(update=changes)
    if run.gen_kwargs and dataset.kind == "generate" and not problems:
        found: list[Problem] = []  # for instance, a metric may judge more answers than there are now
        validate(DatasetConfig, asked.model_dump(exclude_unset=True), where, found)
        problems += [
            replace(
                problem, what=f"with the run's gen_kwargs: {problem.what}", fix=f"change gen_kwargs; or {problem.fix}"
            )
            for problem in found
        ]
    if problems:
        raise UserError(problems)
    return asked


def _few_shot(dataset: DatasetConfig, run: RunConfig, where: str, problems: list[Problem]) -> FewShot | None:
    """The examples with the run's number and seed. A data set without examples stays without."""
    shots, count = dataset.few_shot, run.num_fewshot
    if shots is None or count == 0:
        return None
    if count is not None:
        there = shots.ids or (None if shots.pick else shots.examples)
        if there is not None and len(there) < count:
            what = f"the run asks for {count} examples (num_fewshot), but there are only {len(there)}"
            fix = "lower num_fewshot, or give more"
            problems.append(Problem(where, f"few_shot.{'ids' if shots.ids else 'examples'}", what, fix))
            return shots
        if shots.ids:
            shots = shots.model_copy(update={"ids": shots.ids[:count]})
        elif shots.examples and not shots.pick:
            shots = shots.model_copy(update={"examples": shots.examples[:count]})
        else:
            shots = shots.model_copy(update={"count": count})
    if run.fewshot_seed is not None and shots.pick == "random":
        shots = shots.model_copy(update={"seed": run.fewshot_seed})
    return shots


def generation_kwargs(run: RunConfig) -> dict[str, Any]:
    """The run's settings of generation by our names: without sampling, there is no temperature."""
    given = {OF_LM_EVAL.get(key, key): value for key, value in run.gen_kwargs.items()}
    if given.pop("do_sample", None) is False:
        given["temperature"] = 0.0
    if isinstance(given.get("stop"), str):
        given["stop"] = [given["stop"]]
    return given


def _generation(dataset: DatasetConfig, run: RunConfig, where: str, problems: list[Problem]) -> Generation:
    given = generation_kwargs(run)
    if dataset.kind != "generate" or not given:
        return dataset.generation
    values = dataset.generation.model_dump() | given
    if not values["temperature"]:  # settings that only sampling uses are dropped with it, unless the run gives them
        values |= {key: Generation.model_fields[key].default for key in ("top_k", "top_p", "seed") if key not in given}
    found: list[Problem] = []
    generation = validate(Generation, values, where, found)
    fix = "change gen_kwargs in the run's file or in --config"
    problems += [
        replace(problem, key=f"gen_kwargs.{problem.key}".rstrip("."), fix=problem.fix or fix) for problem in found
    ]
    return generation or dataset.generation


def _as_chat(dataset: DatasetConfig, instruction: str, where: str, problems: list[Problem]) -> dict[str, Any]:
    """The changes for a chat: the preamble becomes the system's message, the prompt the user's."""
    messages = dataset.messages
    if messages is None:
        if dataset.scoring == "perplexity":
            what = "scoring perplexity uses the whole prompt, and a chat must mark which part of it is the answer"
            fix = "add messages: [{role: user, content: ...}, {role: assistant, content: '{{ choice }}'}]"
            problems.append(Problem(where, "messages", what, fix))
        system = [Message(role="system", content=text)] if (text := dataset.preamble.rstrip()) else []
        messages = [*system, Message(role="user", content=str(dataset.prompt).rstrip("\n"))]
    if instruction:
        first, rest = literal(instruction), messages
        if messages[0].role == "system":
            first, rest = first + BETWEEN + messages[0].content, messages[1:]
        messages = [Message(role="system", content=first), *rest]
    changes: dict[str, Any] = {"messages": messages, "prompt": None, "preamble": ""}
    if dataset.continuation is not None and dataset.prompt is not None:
        changes["continuation"] = dataset.continuation.lstrip()
    return changes


def _answer(dataset: DatasetConfig, shots: FewShot, turns: bool) -> str | None:
    """The answers of examples that were written to follow a prompt: as the assistant's turns, or as they are."""
    answer = dataset.continuation if shots.answer is None else shots.answer
    return answer.strip() if answer and turns else answer


def _as_text(dataset: DatasetConfig, instruction: str, where: str, problems: list[Problem]) -> dict[str, Any]:
    if dataset.prompt is None:
        what = "it is asked as a text (apply_chat_template is false, or auto and a model has no chat template)"
        fix = "add a prompt besides the messages, or leave out such models or this data set"
        problems.append(Problem(where, "prompt", f"{what}, but has only messages", fix))
    if not instruction or dataset.kind == "rolling":
        return {"messages": None}
    return {"messages": None, "preamble": literal(instruction) + BETWEEN + dataset.preamble}


def literal(text: str) -> str:
    """A template that renders to exactly this text."""
    if "{" not in text:
        return text
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"
