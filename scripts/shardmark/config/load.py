"""Read config/: the run, and the files of the models and data sets it names. Every mistake is reported at once."""

import fnmatch
import re
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from shardmark.config.backends.transformers import TransformersConfig
from shardmark.config.base import S, validate
from shardmark.config.dataset import DatasetConfig
from shardmark.config.group import GroupConfig
from shardmark.config.include import read_values
from shardmark.config.lm_eval import PREFIX, LmEvalConfig
from shardmark.config.misplaced_keys import checked, checked_model, unused
from shardmark.config.model import ModelConfig
from shardmark.config.run import ONE_OFF, RunConfig
from shardmark.config.yaml_files import MAX_DEPTH, MAX_VALUES, values_in
from shardmark.errors import Problem, UserError, nearest
from shardmark.settings import Settings

S_co = TypeVar("S_co", bound=Settings, covariant=True)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
COMMAND_LINE = "--config"
DATASETS = ("config", "datasets")


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
    "Their names."


@dataclass(frozen=True)
class Benchmark:
    """Everything the user asked for, validated."""

    run: RunConfig
    models: list[Named[ModelConfig]]
    datasets: list[Named[DatasetConfig]]
    "Those of groups, too."
    lm_eval: list[Named[LmEvalConfig]] = field(default_factory=list)
    "Tasks of lm-evaluation-harness, by the names and globs that were asked for."
    groups: list[Group] = field(default_factory=list)


def load(
    config: dict[str, Any], root: Path, where: str, problems: list[Problem], command_line: Collection[str] = ()
) -> Benchmark:
    """Validate a run's configuration and the files it names.

    `config` is Snakemake's merged configuration, `root` the folder that holds config/, `where` what to call the
    configuration in messages, `command_line` the keys that `--config` gave. Mistakes in the files of models and data
    sets are added to `problems`, so that the caller can report them together with what it finds in the rest; a wrong
    run configuration raises UserError with all of them, because nothing after it would make sense.
    """

    def place(key: str) -> str:
        return place_of(key, where, command_line)

    refuse_bombs(config, where)
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
    if not any(problem.key == "datasets" or Path(problem.where).parts[:2] == DATASETS for problem in problems):
        own, tasks = [each.settings for each in benchmark.datasets], [each.settings for each in benchmark.lm_eval]
        told = {problem.key for problem in problems}
        models = [each.settings for each in benchmark.models]
        idle = unused(run, models, own, tasks, place, {"models", "hf_path"} <= {*command_line})
        kept = WITHOUT_EFFECT - {*command_line} if "datasets" in command_line else set()
        problems += [problem for problem in idle if problem.key not in told | kept]
    return benchmark


WITHOUT_EFFECT = {"data_root", "lm_eval_path", "lm_eval_code", "lm_eval_data", "max_out_len"}
"""Keys of a run's file that change no answer where nothing uses them: the command line may choose other data sets."""


def refuse_bombs(config: dict[str, Any], where: str) -> None:
    """Raise UserError for a configuration, as Snakemake read it, that would fill the memory once it is written out."""
    if values_in(config) > MAX_VALUES:
        what = f"more than {MAX_VALUES:,} values, or nested more than {MAX_DEPTH} deep, with what aliases stand for"
        raise UserError(Problem(where, "", what, "write less"))


def place_of(key: str, where: str, command_line: Collection[str]) -> str:
    """What to call the place where a run's key was given."""
    return COMMAND_LINE if key.partition(".")[0] in command_line else where


def _named_files(
    run: RunConfig, root: Path, wrong: set[str], place: Callable[[str], str], problems: list[Problem]
) -> Benchmark:
    """What the files hold that a run names, under keys of which some are wrong: those name nothing."""
    if run.data_root and not Path(run.data_root).expanduser().is_dir():
        problems.append(Problem(place("data_root"), "data_root", f"no folder {run.data_root}", "correct the path"))
    models: list[Named[ModelConfig]] = []
    if run.hf_path:
        models = _one_off(run, problems)
    elif wrong.isdisjoint({"models", "hf_path"}):
        found = _select(run.models, "models", root, place("models"), problems)
        models = _checked(found, checked_model, problems)
    asked = [name.removeprefix(PREFIX) for name in run.datasets if name.startswith(PREFIX)]
    files = [name for name in run.datasets if not name.startswith(PREFIX)]
    datasets, groups, tasks = (
        ([], [], [])
        if "datasets" in wrong or (asked and not files)
        else _datasets(files, root, place("datasets"), problems)
    )
    named = [Named(name, place("datasets"), LmEvalConfig(lm_eval=name)) for name in dict.fromkeys(asked)]
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
"Keys of a run that stand in the place of those of its models, where their backends have them."


def _overridden(
    models: list[Named[ModelConfig]], run: RunConfig, place: Callable[[str], str], problems: list[Problem]
) -> list[Named[ModelConfig]]:
    given = {key: getattr(run, key) for key in OVERRIDES if getattr(run, key) is not None}
    for key in given:
        if models and not any(key in type(model.settings).model_fields for model in models):
            backends = sorted({model.settings.backend for model in models})
            what = f"nothing in this run uses it: models of backend {', '.join(backends)} have no {key}"
            problems.append(Problem(place(key), key, what, "drop it"))
    return [_override(model, given) for model in models]


def _override(model: Named[ModelConfig], given: dict[str, Any]) -> Named[ModelConfig]:
    own = {key: value for key, value in given.items() if key in type(model.settings).model_fields}
    return Named(model.name, model.file, model.settings.model_copy(update=own))


def _datasets(
    wanted: list[str], root: Path, where: str, problems: list[Problem]
) -> tuple[list[Named[DatasetConfig]], list[Group], list[Named[LmEvalConfig]]]:
    """The data sets that are named or belong to a group that is, each once; the groups; and tasks of lm-eval."""
    found = _select(wanted, "datasets", root, where, problems)
    grouped = [Named(each.name, each.file, each.settings) for each in found if is_group(each.settings)]
    groups = []
    for group in _validated(grouped, GroupConfig, problems):
        chosen = _select(group.settings.group, "datasets", root, group.file, problems, "group")
        if inner := [each.name for each in chosen if is_group(each.settings) and each.name in group.settings.group]:
            problems.append(Problem(group.file, "group", f"{inner[0]} is a group itself", "name its data sets"))
        if foreign := [each.name for each in chosen if is_lm_eval(each.settings)]:
            what = f"{foreign[0]} is a task of lm-eval, which has groups of its own"
            problems.append(Problem(group.file, "group", what, "name it beside the group"))
        members = [each for each in chosen if not is_group(each.settings) and not is_lm_eval(each.settings)]
        names = [each.name for each in members]
        if group.settings.weights and (odd := set(group.settings.weights) ^ set(names)):
            what = f"weights are those of other data sets than group: {', '.join(sorted(odd))}"
            problems.append(Problem(group.file, "weights", what, "give one for each"))
        groups.append(Group(group.name, group.file, group.settings, names))
        found += members
    alone = {each.name: each for each in found if not is_group(each.settings)}
    theirs = [each for each in alone.values() if is_lm_eval(each.settings)]
    own = [each for each in alone.values() if not is_lm_eval(each.settings)]
    return _validated(own, DatasetConfig, problems), groups, _validated(theirs, LmEvalConfig, problems)


def is_group(values: object) -> bool:
    """Whether the values of a file in config/datasets are those of a group."""
    return isinstance(values, dict) and "group" in values


def is_lm_eval(values: object) -> bool:
    """Whether the values of a file in config/datasets are those of tasks of lm-eval."""
    return isinstance(values, dict) and not {"lm_eval", "task_path"}.isdisjoint(values)


def _validated(found: list[Named[Any]], kind: type[S], problems: list[Problem]) -> list[Named[S]]:
    """The settings in values of files, without those that are wrong."""
    return _checked(found, partial(checked, kind), problems)


def _checked(
    found: list[Named[Any]], check: Callable[[Any, str, list[Problem]], S | None], problems: list[Problem]
) -> list[Named[S]]:
    read = [(each, check(each.settings, each.file, problems)) for each in found]
    return [Named(each.name, each.file, settings) for each, settings in read if settings is not None]


def _select(
    wanted: list[str], folder: str, root: Path, where: str, problems: list[Problem], key: str = ""
) -> list[Named[Any]]:
    """The values of the files in config/{folder} whose names match, in the order asked for, each once.

    The names stand under `key` (the folder's name if empty) in `where`.
    """
    files = files_by_name(root / "config" / folder, root, folder, [] if key else problems)
    whole, key = [name for name in sorted(files) if not is_part(name)], key or folder
    if not wanted:
        problems.append(Problem(where, key, "nothing is named", f"{key}: [NAME, ...]; {nearest('', whole)}"))
    names: dict[str, None] = {}
    for pattern in wanted:
        matches = fnmatch.filter(whole, pattern)
        if not matches:
            problems.append(Problem(where, key, f"no file config/{folder}/{pattern}.yaml", nearest(pattern, whole)))
        names |= dict.fromkeys(matches)
    found = [(name, files[name].as_posix(), read_values(files[name], root, files, problems)) for name in names]
    return [Named(name, file, values) for name, file, values in found if values is not None]


def is_part(name: str) -> bool:
    """Whether a file is only there to be included by others, as its name says with an underscore in front."""
    return name.startswith("_")


def files_by_name(folder: Path, root: Path, key: str, problems: list[Problem]) -> dict[str, Path]:
    """The YAML files below a folder by the name they define; two of one name are a problem."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        if path.name.startswith("."):
            continue  # an editor's
        found[path.stem].append(path.relative_to(root))
    for name, paths in found.items():
        if len(paths) > 1:
            others = " and ".join(map(str, paths[1:]))
            problems.append(Problem(str(paths[0]), "", f"{others} has the same name {name!r}", "rename one of them"))
        if not NAME.fullmatch(name.removeprefix("_")):
            fix = "use letters, digits, dot, dash and underscore: it becomes a folder's name"
            problems.append(Problem(str(paths[0]), "", f"{name!r} cannot be the name of one of the {key}", fix))
    return {name: paths[0] for name, paths in found.items()}
