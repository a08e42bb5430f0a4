"""Settings in the wrong place: keys that belong in another file, and keys of a run that nothing in it uses."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from shardmark.config.asking import chat_wanted
from shardmark.config.base import SHOWN, S, validate
from shardmark.config.dataset import DatasetConfig
from shardmark.config.lm_eval import LmEvalConfig
from shardmark.config.model import ModelConfig, backend_names, settings_class, settings_of
from shardmark.config.run import RunConfig
from shardmark.config.scope import refused, refused_parts
from shardmark.errors import Problem
from shardmark.settings import Settings

LARGEST = 2**63 - 1
NATIVE = {
    "num_fewshot": "a data set's file says few_shot: {count: 5, source: {split: train}}",
    "fewshot_seed": "a data set's file says few_shot: {pick: random, seed: 1, count: 5, source: {split: train}}",
    "gen_kwargs": "a data set's file says generation: {max_new_tokens: 512}",
}
"The keys of a data set's file that correspond to these keys of a run."
OF_OTHERS = {
    "tasks": "datasets: ['lm_eval:NAME']",
    "include_path": "lm_eval_path",
    "model_args": "hf_path with dtype, revision and others, or a file in config/models",
    "hf_type": "apply_chat_template",
    "hf_num_gpus": "num_gpus",
    "device": "CUDA_VISIBLE_DEVICES, or num_gpus: 0 for the CPU",
    "samples": "samples: {TASK: [0, 3]} beside lm_eval in a data set's file",
    "seed": "fewshot_seed, or seed in gen_kwargs",
    "predict_only": "snakemake --until infer",
    "output_path": "results",
    "work_dir": "results",
    **dict.fromkeys(("log_samples", "use_cache", "reuse"), "nothing: samples and answers are always kept, and reused"),
}
"Options of lm-eval and OpenCompass, and what they are called here."
FEW_SHOT = ("num_fewshot", "fewshot_seed")
OF_TASKS = ("lm_eval_path", "lm_eval_code", "lm_eval_data", "lm_eval_metadata")
"Keys of a run that only tasks of lm-eval use."
FILES: dict[type[Settings], str] = {
    RunConfig: "the run's own (config/config.yaml, or --config)",
    ModelConfig: "the file of a model, config/models/NAME.yaml",
    DatasetConfig: "the file of a data set, config/datasets/NAME.yaml",
}


def checked(kind: type[S], values: object, where: str, problems: list[Problem]) -> S | None:
    """The settings in a file's values; an unknown key is reported with the file that it belongs in."""
    found = list(islice(chain(_not_settings(values, ""), refused_parts(values)), SHOWN))
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
    """Values that no setting can have, anywhere except in rows of the user's own."""
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
    elif isinstance(value, date):
        yield Problem("", key, f"YAML reads {value} as a {type(value).__name__}, not as text", "put it in quotes")
    elif not isinstance(value, str | int | float | None):
        what = f"expected text, a number, a list or a mapping, found {type(value).__name__}"
        yield Problem("", key, what, "write a list, a mapping or a text")


def _pointed(problem: Problem, kind: type[Settings]) -> Problem:
    if beyond := refused(problem):
        return beyond
    if problem.key in kind.model_fields or "." in problem.key:
        return problem
    if kind is DatasetConfig and problem.key in NATIVE:
        return replace(problem, fix=f"it belongs in the run's own file, or --config; {NATIVE[problem.key]}")
    if kind is RunConfig and problem.key in OF_OTHERS:
        return replace(problem, fix=f"here it is {OF_OTHERS[problem.key]}; docs/clusters.md has all such options")
    others = [file for other, file in FILES.items() if not issubclass(kind, other) and problem.key in _fields(other)]
    return replace(problem, fix=f"it belongs in {' or '.join(others)}") if others else problem


def _fields(kind: type[Settings]) -> set[str]:
    """The keys of a kind of file; for models, those of any backend."""
    kinds = map(settings_class, backend_names()) if kind is ModelConfig else [kind]
    return {key for each in kinds for key in each.model_fields}


def unused(
    run: RunConfig,
    models: list[ModelConfig],
    datasets: list[DatasetConfig],
    tasks: list[LmEvalConfig],
    place: Callable[[str], str],
    both_given: bool,
) -> Iterator[Problem]:
    """A problem for each key of a run that none of its data sets and lm-eval's tasks uses.

    `place` tells where a key was given, `both_given` whether both models and hf_path were given.
    """
    given = {key for key, field in type(run).model_fields.items() if getattr(run, key) != field.get_default()}
    for key in sorted(given):
        why = _idle_way_to_ask(key, run, models, datasets, tasks) or _why_unused(key, run, datasets, tasks)
        if why:
            yield Problem(place(key), key, f"nothing in this run uses it: {why[0]}", why[1])
    if both_given:
        what = "nothing in this run uses them: hf_path replaces them"
        yield Problem(place("models"), "models", what, "drop one of the two")


def _why_unused(
    key: str, run: RunConfig, datasets: list[DatasetConfig], tasks: list[LmEvalConfig]
) -> tuple[str, str] | None:
    """The reason why a given key has no effect, and the fix; None if it has one."""
    if key in OF_TASKS and not tasks:
        return "only tasks of lm-eval do, and it names none", "drop it, or name a task as lm_eval:NAME"
    if key == "store_trust" and not run.store:
        return "there is no store", "drop it, or give store"
    if key == "lm_eval_data" and not run.data_root:
        return "there is no data_root, whose files it names", "give data_root, or drop it"
    if key == "data_root" and not tasks and not any(map(_reads_data_root, datasets)):
        return "all rows come from files of their own", "drop it, or name data sets with `source.local`"
    if key == "max_out_len" and not tasks and not any(dataset.kind == "generate" for dataset in datasets):
        return "no data set has generated answers", "drop it"
    for name, path in (("revision", run.hf_path), ("adapter_revision", run.adapter)):
        if key == name and path and Path(path).expanduser().is_dir():
            return f"{path} is a folder, which has no revisions", "drop it"
    return None


def _idle_way_to_ask(
    key: str, run: RunConfig, models: list[ModelConfig], datasets: list[DatasetConfig], tasks: list[LmEvalConfig]
) -> tuple[str, str] | None:
    """The same for the keys that decide how data sets are asked."""
    shots = [dataset.few_shot for dataset in datasets if dataset.few_shot]
    if key in ("fewshot_seed", "fewshot_as_multiturn") and run.num_fewshot == 0:
        return "with num_fewshot: 0 there are no examples", "drop one of the two"
    if key == "fewshot_as_multiturn":
        named: list[DatasetConfig | LmEvalConfig] = [*datasets, *tasks]
        chats = [chat_wanted(run, each, model) for each in named for model in models]
        if not any(chats):
            return "it asks no data set in a chat", "add apply_chat_template: true, or drop it"
        return None if tasks or shots else ("none of its data sets has examples", "drop it")
    if key == "max_cost" and not any(model.elsewhere for model in models):
        return "none of its models is behind an endpoint", "drop it"
    if tasks:
        return None
    if key == "num_fewshot" and run.num_fewshot and not shots:
        return "none of its data sets has examples", NATIVE[key]
    if key == "fewshot_seed" and not any(each.pick == "random" for each in shots):
        return "none of its data sets picks examples at random", NATIVE[key]
    if key == "gen_kwargs" and not any(dataset.kind == "generate" for dataset in datasets):
        return "no data set has generated answers", "drop it"
    if key in ("apply_chat_template", "system_instruction") and all(each.kind == "rolling" for each in datasets):
        return "all data sets are of kind rolling, which reads whole texts", "drop it"
    return None


def _reads_data_root(dataset: DatasetConfig) -> bool:
    examples = dataset.example_source()
    return bool(dataset.source.hub) or bool(examples and not examples.file)


class Reads(NamedTuple):
    """The parts of a data set that a run's keys can apply to."""

    kinds: set[str]
    "The kinds of its requests."
    shots: bool
    "Whether it may have examples."


def partly_used(
    run: RunConfig, own: dict[str, DatasetConfig], theirs: dict[str, Reads], place: Callable[[str], str]
) -> list[Problem]:
    """Notes about keys that some data sets of a run do not use: its own and lm-eval's, by name."""
    sets = {name: Reads({each.kind}, bool(each.few_shot)) for name, each in own.items()} | theirs
    whole_texts = [name for name, each in sets.items() if each.kinds == {"rolling"}]
    without = {
        "num_fewshot": [name for name, each in sets.items() if run.num_fewshot and not each.shots],
        "fewshot_seed": [
            name
            for name, dataset in own.items()
            if run.fewshot_seed is not None and dataset.few_shot and dataset.few_shot.pick != "random"
        ],
        "gen_kwargs": [name for name, each in sets.items() if run.gen_kwargs and "generate" not in each.kinds],
        "apply_chat_template": whole_texts if run.apply_chat_template else [],
        "system_instruction": whole_texts if run.system_instruction else [],
    }
    why = {
        "num_fewshot": "which have no examples",
        "fewshot_seed": "which do not pick them at random",
        "gen_kwargs": "whose answers are not generated",
    }
    found = []
    for key, names in without.items():
        if names:
            named = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            what = f"has no effect on {named}, {why.get(key, 'which read whole texts')}"
            found.append(Problem(place(key), key, what, NATIVE[key] if key in FEW_SHOT and {*names} & {*own} else ""))
    return found
