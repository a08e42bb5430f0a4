"""Read config/: the run, and the files of the models and data sets it names. All mistakes are reported at once."""

import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from shardmark.config.backends.transformers import TransformersConfig
from shardmark.config.base import S, validate
from shardmark.config.dataset import DatasetConfig
from shardmark.config.group import GroupConfig
from shardmark.config.include import read_values
from shardmark.config.lm_eval import PREFIX, LmEvalConfig
from shardmark.config.misplaced_keys import OF_TASKS, checked, checked_model, unused
from shardmark.config.model import ModelConfig
from shardmark.config.one_off import one_off_name
from shardmark.config.own_code import with_own_code
from shardmark.config.parts import has_parts, split
from shardmark.config.run import ONE_OFF, RunConfig
from shardmark.config.search_path import ConfigFiles, config_files, filtered, of_kind
from shardmark.config.suite import without_suites
from shardmark.config.yaml_files import MAX_DEPTH, MAX_VALUES, values_in
from shardmark.errors import Problem, UserError, nearest
from shardmark.settings import Settings

S_co = TypeVar("S_co", bound=Settings, covariant=True)
COMMAND_LINE = "--config"


@dataclass(frozen=True)
class Named(Generic[S_co]):
    """Settings, the name that results are filed under, and the file they came from."""

    name: str
    file: str
    settings: S_co


@dataclass(frozen=True)
class Group(Named[GroupConfig]):
    """Data sets that are reported as one."""

    members: list[str]
    "The names of its data sets."


@dataclass(frozen=True)
class Benchmark:
    """Everything the user asked for, validated."""

    run: RunConfig
    models: list[Named[ModelConfig]]
    datasets: list[Named[DatasetConfig]]
    "Data sets, including those of groups."
    lm_eval: list[Named[LmEvalConfig]] = field(default_factory=list)
    "Tasks of lm-evaluation-harness, by the names and globs of the run."
    groups: list[Group] = field(default_factory=list)


def load(
    config: dict[str, Any], root: Path, where: str, problems: list[Problem], command_line: Collection[str] = ()
) -> Benchmark:
    """Validate a run's configuration and the files it names.

    `config` is Snakemake's merged configuration, `root` the folder that contains config/, `where` the configuration's
    name in messages, `command_line` the keys that `--config` gave. Mistakes in the files of models and data sets are
    added to `problems`, so that the caller can report them together with those it finds elsewhere; a wrong run
    configuration raises UserError with all of them, because nothing after it would make sense.
    """

    def place(key: str) -> str:
        return place_of(key, where, command_line)

    refuse_bombs(config, where)
    if "run" not in command_line and (name := one_off_name(config, command_line)) != config.get("run", "default"):
        config = config | {"run": name}
    found: list[Problem] = []
    run = checked(RunConfig, config, where, found)
    problems += [replace(problem, where=place(problem.key)) for problem in found]
    wrong = {problem.key.partition(".")[0] for problem in found}
    right = run or validate(RunConfig, {key: value for key, value in config.items() if key not in wrong}, where, [])
    if right is None:
        raise UserError(problems)
    benchmark = _named_files(right, root, wrong, place, problems)
    if run is None:
        raise UserError(problems)
    if not any(problem.key == "datasets" or of_kind(Path(problem.where), "datasets") for problem in problems):
        own, tasks = [each.settings for each in benchmark.datasets], [each.settings for each in benchmark.lm_eval]
        told = {problem.key for problem in problems}
        models = [each.settings for each in benchmark.models]
        idle = unused(run, models, own, tasks, place, {"models", "hf_path"} <= {*command_line})
        kept = WITHOUT_EFFECT - {*command_line} if "datasets" in command_line else set()
        problems += [problem for problem in idle if problem.key not in told | kept]
    return benchmark


WITHOUT_EFFECT = {"data_root", *OF_TASKS, "max_out_len"}
"""Keys of a run's file that change no answer if nothing uses them: the command line may choose other data sets."""


def refuse_bombs(config: dict[str, Any], where: str) -> None:
    """Raise UserError for a configuration, as Snakemake read it, that would fill the memory when written out."""
    if values_in(config) > MAX_VALUES:
        what = f"more than {MAX_VALUES:,} values, or nested more than {MAX_DEPTH} deep, with aliases expanded"
        raise UserError(Problem(where, "", what, "shorten it"))


def replacements(benchmark: Benchmark, root: Path) -> list[Problem]:
    """Notes about this run's files that replace shipped ones of the same name."""
    files = {kind: config_files(kind, root, []) for kind in ("models", "datasets")}
    named: list[tuple[str, Named[Any]]] = [("models", model) for model in benchmark.models]
    named += [("datasets", each) for each in (*benchmark.datasets, *benchmark.groups, *benchmark.lm_eval)]
    found = (files[kind].replaced(Path(each.file).stem) for kind, each in named if of_kind(Path(each.file), kind))
    return list(dict.fromkeys(note for note in found if note))


def place_of(key: str, where: str, command_line: Collection[str]) -> str:
    """The place where a run's key was given, for messages."""
    return COMMAND_LINE if key.partition(".")[0] in command_line else where


def _named_files(
    run: RunConfig, root: Path, wrong: set[str], place: Callable[[str], str], problems: list[Problem]
) -> Benchmark:
    """The contents of the files that a run names; keys in `wrong` name nothing."""
    if run.data_root and not run.rescore and not Path(os.path.expanduser(run.data_root)).is_dir():
        problems.append(Problem(place("data_root"), "data_root", f"no folder {run.data_root}", "correct the path"))
    models: list[Named[ModelConfig]] = []
    if run.hf_path:
        models = _one_off(run, problems)
    elif wrong.isdisjoint({"models", "hf_path"}):
        found = _select(run.models, "models", root, place("models"), problems)
        models = _checked(found, checked_model, problems)
    names = without_suites(run.datasets, root, place("datasets"), problems)
    asked = [(name.removeprefix(PREFIX), said) for name, said in names if name.startswith(PREFIX)]
    files = [(name, said) for name, said in names if not name.startswith(PREFIX)]
    nowhere = bool(run.datasets) and not files  # all are lm-eval's, or of a suite that is wrong
    datasets, groups, tasks = (
        ([], [], []) if "datasets" in wrong or nowhere else _datasets(files, root, place("datasets"), problems)
    )
    named = [Named(name, said, LmEvalConfig(lm_eval=name)) for name, said in dict(asked).items()]
    datasets = [
        Named(each.name, each.file, with_own_code(each.settings, each.file, root, run.own_code, problems))
        for each in datasets
    ]
    return Benchmark(run, _overridden(models, run, place, problems), datasets, named + tasks, groups)


def _one_off(run: RunConfig, problems: list[Problem]) -> list[Named[ModelConfig]]:
    """The model of `--config hf_path=...`."""
    path = str(run.hf_path)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.rstrip("/").rsplit("/", 1)[-1]).strip("-.") or "model"
    where = f"{COMMAND_LINE} hf_path"
    values = {"path": path} | {key: getattr(run, key) for key in ONE_OFF}
    settings = checked(TransformersConfig, values, where, problems)
    return [Named(name, where, settings)] if settings else []


OVERRIDES = ("num_gpus", "batch_size", "batch_padding", "max_seq_len", "max_out_len", "dtype")
"Keys of a run that override those of its models, if their backends have them."


def _overridden(
    models: list[Named[ModelConfig]], run: RunConfig, place: Callable[[str], str], problems: list[Problem]
) -> list[Named[ModelConfig]]:
    given = {key: getattr(run, key) for key in OVERRIDES if getattr(run, key) is not None}
    for key in given:
        if models and not any(key in _own_part(model.settings, given) for model in models):
            backends = sorted({model.settings.backend for model in models})
            what = f"nothing in this run uses it: models of backend {', '.join(backends)} have no {key}"
            problems.append(Problem(place(key), key, what, "drop it"))
    return [_override(model, given) for model in models]


def _own_part(settings: ModelConfig, given: dict[str, Any]) -> dict[str, Any]:
    """The given keys that apply to a model."""
    none = {"num_gpus"} if settings.elsewhere else set()
    return {key: value for key, value in given.items() if key in type(settings).model_fields.keys() - none}


def _override(model: Named[ModelConfig], given: dict[str, Any]) -> Named[ModelConfig]:
    own = _own_part(model.settings, given)
    return Named(model.name, model.file, model.settings.model_copy(update=own))


def _datasets(
    wanted: list[tuple[str, str]], root: Path, where: str, problems: list[Problem]
) -> tuple[list[Named[DatasetConfig]], list[Group], list[Named[LmEvalConfig]]]:
    """The data sets that are named, directly or by a group, each once; the groups; and tasks of lm-eval.

    Each name comes with the place that gives it; `where` is the run's configuration.
    """
    by_place: dict[str, list[str]] = {} if wanted else {where: []}
    for name, said in wanted:
        by_place.setdefault(said, []).append(name)
    selected = [each for said, names in by_place.items() for each in _select(names, "datasets", root, said, problems)]
    found = list({each.name: each for each in selected}.values())
    grouped = [Named(each.name, each.file, each.settings) for each in found if is_group(each.settings)]
    groups = []
    for group in _validated(grouped, GroupConfig, problems):
        chosen = _select(group.settings.group, "datasets", root, group.file, problems, "group")
        named = {each.name for each in chosen if is_group(each.settings)} & {*group.settings.group}
        if inner := sorted(named | {each.name for each in chosen if _is_parted(each)}):
            problems.append(Problem(group.file, "group", f"{inner[0]} is a group itself", "name its data sets"))
        if foreign := [each.name for each in chosen if is_lm_eval(each.settings)]:
            what = f"{foreign[0]} is a task of lm-eval, which has groups of its own"
            problems.append(Problem(group.file, "group", what, "name it beside the group"))
        members = [each for each in chosen if not is_group(each.settings) and not is_lm_eval(each.settings)]
        names = [each.name for each in members]
        if group.settings.weights and (odd := set(group.settings.weights) ^ set(names)):
            what = f"weights and group do not name the same data sets: {', '.join(sorted(odd))}"
            problems.append(Problem(group.file, "weights", what, "give one for each"))
        groups.append(Group(group.name, group.file, group.settings, names))
        found += members
    alone = {each.name: each for each in found if not is_group(each.settings)}
    theirs = [each for each in alone.values() if is_lm_eval(each.settings)]
    own = [each for each in alone.values() if not is_lm_eval(each.settings)]
    return _validated(own, DatasetConfig, problems), groups, _validated(theirs, LmEvalConfig, problems)


def _is_parted(named: Named[Any]) -> bool:
    """Whether the settings are those of a file with parts, as a group of them; globs do not match it by itself."""
    group = named.settings.get("group") if isinstance(named.settings, dict) else None
    return isinstance(group, list) and bool(group) and str(group[0]).startswith(f"{named.name}.")


def is_group(values: object) -> bool:
    """Whether the values of a file in config/datasets are those of a group."""
    return isinstance(values, dict) and "group" in values


def is_lm_eval(values: object) -> bool:
    """Whether the values of a file in config/datasets are those of tasks of lm-eval."""
    return isinstance(values, dict) and not {"lm_eval", "task_path"}.isdisjoint(values)


def _validated(found: list[Named[Any]], kind: type[S], problems: list[Problem]) -> list[Named[S]]:
    """The settings in the values of files, without wrong ones; mistakes that a file's parts share are reported once."""
    told: list[Problem] = []
    checked_ones = _checked(found, partial(checked, kind), told)
    problems += dict.fromkeys(told)
    return checked_ones


def _checked(
    found: list[Named[Any]], check: Callable[[Any, str, list[Problem]], S | None], problems: list[Problem]
) -> list[Named[S]]:
    read = [(each, check(each.settings, each.file, problems)) for each in found]
    return [Named(each.name, each.file, settings) for each, settings in read if settings is not None]


def _select(
    wanted: list[str], folder: str, root: Path, where: str, problems: list[Problem], key: str = ""
) -> list[Named[Any]]:
    """The values of the files in config/{folder} whose names match, in the order asked for, each once.

    The names are given under `key` (the folder's name if empty) in `where`.
    """
    files = config_files(folder, root, [] if key else problems)
    whole, key = files.names(), key or folder
    if not wanted and not any(told.what == "unknown key" and f"'{key}'" in told.fix for told in problems):
        problems.append(Problem(where, key, "names nothing", f"{key}: [NAME, ...]; {nearest('', whole)}"))
    parted = folder == "datasets"
    read = cache(partial(_values_by_name, root=root, files=files, parted=parted, problems=problems))
    found: dict[str, Named[Any]] = {}
    for pattern in wanted:
        stems = files.matching(pattern, Path(where))
        matches = [each for stem in stems for each in read(stem)[:1]]
        if not stems:  # FILE.PART; no part has a dot in its name
            of_parts = files.matching(pattern.rpartition(".")[0], Path(where))
            parts = {each.name: each for stem in of_parts for each in read(stem)[1:]}
            matches = [parts[name] for name in filtered([*parts], pattern)]
        if not matches and not stems:
            problems.append(Problem(where, key, f"no file config/{folder}/{pattern}.yaml", nearest(pattern, whole)))
        found |= {each.name: each for each in matches if each.name not in found}
    return list(found.values())


def _values_by_name(
    stem: str, root: Path, files: ConfigFiles, parted: bool, problems: list[Problem]
) -> list[Named[Any]]:
    """The values of a file, and of its parts if it has any; none if they cannot be read."""
    file = files.all[stem].as_posix()
    values = read_values(files.all[stem], root, files, problems)
    by_name = split(stem, values, file, problems) if parted and has_parts(values) else {stem: values}
    return [Named(name, file, each) for name, each in by_name.items() if each is not None]
