"""Settings in the wrong place: keys that belong in another file, and keys of a run that nothing in it uses."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path

from shardmark.config.base import SHOWN, S, validate
from shardmark.config.dataset import DatasetConfig
from shardmark.config.lm_eval import LmEvalConfig
from shardmark.config.model import ModelConfig, backend_names, settings_class, settings_of
from shardmark.config.run import RunConfig
from shardmark.errors import Problem
from shardmark.settings import Settings

LARGEST = 2**63 - 1
NATIVE = {
    "num_fewshot": "a data set's file says few_shot: {count: 5, source: {split: train}}",
    "apply_chat_template": "a data set's file asks in a chat with `messages` in the place of `prompt`",
    "fewshot_as_multiturn": "in `messages` of a data set's file, examples are turns of their own",
    "system_instruction": "a data set's file says `messages: [{role: system, content: ...}, ...]`",
}
"How data sets of config/datasets say what these keys say of lm-eval's tasks."
OF_TASKS = (*NATIVE, "lm_eval_path", "lm_eval_code", "lm_eval_data")
"Keys of a run that only tasks of lm-eval use."
STYLE = ("num_fewshot", "apply_chat_template", "system_instruction")
"Those that a task's own file may say instead."
FILES: dict[type[Settings], str] = {
    RunConfig: "the run's own (config/config.yaml, or --config)",
    ModelConfig: "the file of a model, config/models/NAME.yaml",
    DatasetConfig: "the file of a data set, config/datasets/NAME.yaml",
}


def checked(kind: type[S], values: object, where: str, problems: list[Problem]) -> S | None:
    """The settings in a file's values; a key that is unknown there is told with the file that it belongs in."""
    found = list(islice(_not_settings(values, ""), SHOWN))
    if found:
        problems += [replace(problem, where=where) for problem in found]
        return None
    settings = validate(kind, values, where, found)
    problems += [_pointed(problem, kind) if problem.what == "unknown key" else problem for problem in found]
    return settings


def checked_model(values: object, where: str, problems: list[Problem]) -> ModelConfig | None:
    """The settings in the values of a model's file, by its backend."""
    try:
        kind = settings_of(values)
    except ValueError as error:
        what, _, fix = str(error).partition(": ")
        problems.append(Problem(where, "backend", what, fix))
        return None
    return checked(kind, values, where, problems)


def _not_settings(value: object, key: str) -> Iterator[Problem]:
    """What no setting can be, wherever it stands, but in rows of the user's own."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name != "examples":
                yield from _not_settings(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _not_settings(part, f"{key}.{number}")
    elif isinstance(value, int) and abs(value) > LARGEST:
        yield Problem("", key, f"a number of {len(str(value))} digits is too large", f"give one up to {LARGEST}")
    elif isinstance(value, str) and "\0" in value:
        yield Problem("", key, "a text with a NUL character", "remove it")
    elif not isinstance(value, str | int | float | None):
        fix = "put it in quotes" if isinstance(value, date) else "write a list, a mapping or a text"
        yield Problem("", key, f"expected text, a number, a list or a mapping, found {type(value).__name__}", fix)


def _pointed(problem: Problem, kind: type[Settings]) -> Problem:
    if problem.key in kind.model_fields or "." in problem.key:
        return problem
    if kind is DatasetConfig and problem.key in NATIVE:
        return replace(problem, fix=f"only tasks of lm-eval have it: {NATIVE[problem.key]}")
    others = [file for other, file in FILES.items() if not issubclass(kind, other) and problem.key in _fields(other)]
    return replace(problem, fix=f"it belongs in {' or '.join(others)}") if others else problem


def _fields(kind: type[Settings]) -> set[str]:
    """The keys of a kind of file; of a model, those of any backend."""
    kinds = map(settings_class, backend_names()) if kind is ModelConfig else [kind]
    return {key for each in kinds for key in each.model_fields}


def unused(
    run: RunConfig,
    datasets: list[DatasetConfig],
    tasks: list[LmEvalConfig],
    place: Callable[[str], str],
    both_given: bool,
) -> Iterator[Problem]:
    """A problem for each key of a run that its data sets, and tasks of lm-eval, make no use of.

    `place` tells where a key was given, `both_given` whether models and hf_path were given side by side.
    """
    given = {key for key, field in type(run).model_fields.items() if getattr(run, key) != field.get_default()}
    for key in sorted(given):
        if why := _why_unused(key, run, datasets, tasks):
            yield Problem(place(key), key, f"nothing in this run uses it: {why[0]}", why[1])
    if both_given:
        what = "nothing in this run uses them: hf_path stands in their place"
        yield Problem(place("models"), "models", what, "drop one of the two")


def _why_unused(
    key: str, run: RunConfig, datasets: list[DatasetConfig], tasks: list[LmEvalConfig]
) -> tuple[str, str] | None:
    """Why a key that is given has no effect, and what to do about it; None if it has one."""
    if key in OF_TASKS and not tasks:
        return "only tasks of lm-eval do, and it names none", NATIVE.get(key, "drop it, or name a task as lm_eval:NAME")
    if key in STYLE and all(getattr(task, key) is not None for task in tasks):
        return "each of its tasks has its own in its file", "drop it"
    if key == "fewshot_as_multiturn" and not any(
        task.fewshot_as_multiturn is None and (run if task.apply_chat_template is None else task).apply_chat_template
        for task in tasks
    ):
        return "it asks none of its tasks in a chat", "add apply_chat_template: true, or drop it"
    if key == "lm_eval_data" and not run.data_root:
        return "there is no data_root whose files it could name", "give data_root, or drop it"
    if key == "data_root" and not tasks and not any(map(_reads_data_root, datasets)):
        return "all rows come from files of their own", "drop it, or name data sets with `source.local`"
    if key == "max_out_len" and not tasks and not any(dataset.kind == "generate" for dataset in datasets):
        return "no data set has answers that are generated", "drop it"
    for name, path in (("revision", run.hf_path), ("adapter_revision", run.adapter)):
        if key == name and path and Path(path).expanduser().is_dir():
            return f"{path} is a folder, which has no revisions", "drop it"
    return None


def _reads_data_root(dataset: DatasetConfig) -> bool:
    examples = dataset.example_source()
    return not dataset.source.file or bool(examples and not examples.file)


def partly_used(run: RunConfig, own: list[str], tasks: bool, place: Callable[[str], str]) -> list[Problem]:
    """What to tell of keys that some data sets of a run use, and others, which are called `own`, do not."""
    keys = [key for key in NATIVE if getattr(run, key) != RunConfig.model_fields[key].get_default()]
    if not (own and tasks):
        return []
    named = ", ".join(own[:3]) + (f" and {len(own) - 3} more" if len(own) > 3 else "")
    return [
        Problem(place(key), key, f"is that of lm-eval's tasks alone, and not of {named}", NATIVE[key]) for key in keys
    ]
