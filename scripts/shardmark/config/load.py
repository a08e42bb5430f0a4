"""Read config/: the run, and the files of the models and data sets it names. Every mistake is reported at once."""

import fnmatch
import re
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic

import yaml

from shardmark.config.base import S, validate
from shardmark.config.dataset import DatasetConfig
from shardmark.config.lm_eval import PREFIX, LmEvalConfig
from shardmark.config.model import ModelConfig
from shardmark.config.run import ONE_OFF, RunConfig
from shardmark.errors import Problem, UserError, nearest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
COMMAND_LINE = "--config"


@dataclass(frozen=True)
class Named(Generic[S]):
    """Settings, the name that results are filed under, and the file they came from."""

    name: str
    file: str
    settings: S


@dataclass(frozen=True)
class Benchmark:
    """Everything the user asked for, validated."""

    run: RunConfig
    models: list[Named[ModelConfig]]
    datasets: list[Named[DatasetConfig]]
    lm_eval: list[Named[LmEvalConfig]] = field(default_factory=list)
    "Tasks of lm-evaluation-harness, by the names and globs that were asked for."


def load(
    config: dict[str, Any], root: Path, where: str, problems: list[Problem], command_line: Collection[str] = ()
) -> Benchmark:
    """Validate a run's configuration and the files it names.

    `config` is Snakemake's merged configuration, `root` the folder that holds config/, `where` what to call the
    configuration in messages, `command_line` the keys that `--config` gave. Mistakes in the files of models and data
    sets are added to `problems`, so that the caller can report them together with what it finds in the rest; a wrong
    run configuration raises UserError, because nothing after it would make sense.
    """

    def place(key: str) -> str:
        return COMMAND_LINE if key.partition(".")[0] in command_line else where

    found: list[Problem] = []
    run = validate(RunConfig, config, where, found)
    problems += [replace(problem, where=place(problem.key)) for problem in found]
    if run is None:
        raise UserError(problems)
    if run.data_root and not Path(run.data_root).expanduser().is_dir():
        problems.append(Problem(place("data_root"), "data_root", f"no folder {run.data_root}", "correct the path"))
    models = (
        _one_off(run, problems)
        if run.hf_path
        else _select(run.models, "models", lambda values: ModelConfig, root, place("models"), problems)
    )
    asked = [name.removeprefix(PREFIX) for name in run.datasets if name.startswith(PREFIX)]
    files = [name for name in run.datasets if not name.startswith(PREFIX)]
    found_files: list[Named[Any]] = []
    if files or not asked:
        found_files = _select(files, "datasets", dataset_kind, root, place("datasets"), problems)
    tasks = [Named(name, place("datasets"), LmEvalConfig(lm_eval=name)) for name in dict.fromkeys(asked)]
    tasks += [named for named in found_files if isinstance(named.settings, LmEvalConfig)]
    datasets = [named for named in found_files if not isinstance(named.settings, LmEvalConfig)]
    return Benchmark(run, [_override(model, run) for model in models], datasets, tasks)


def dataset_kind(values: Any) -> type[DatasetConfig] | type[LmEvalConfig]:
    """What a data set file describes: a task of our own, or lm-eval's."""
    names_tasks = isinstance(values, dict) and not {"lm_eval", "task_path"}.isdisjoint(values)
    return LmEvalConfig if names_tasks else DatasetConfig


def _one_off(run: RunConfig, problems: list[Problem]) -> list[Named[ModelConfig]]:
    """The model of `--config hf_path=...`."""
    path = str(run.hf_path)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.rstrip("/").rsplit("/", 1)[-1]).strip("-.") or "model"
    where = f"{COMMAND_LINE} hf_path"
    values = {"path": path} | {key: getattr(run, key) for key in ONE_OFF}
    settings = validate(ModelConfig, values, where, problems)
    return [Named(name, where, settings)] if settings else []


def _override(model: Named[ModelConfig], run: RunConfig) -> Named[ModelConfig]:
    keys = ("num_gpus", "batch_size", "batch_padding", "max_seq_len", "max_out_len", "dtype")
    given = {key: getattr(run, key) for key in keys if getattr(run, key) is not None}
    return Named(model.name, model.file, model.settings.model_copy(update=given))


def _select(
    wanted: list[str], key: str, kind: Callable[[Any], type[S]], root: Path, where: str, problems: list[Problem]
) -> list[Named[S]]:
    """The files in config/{key} whose names match, in the order asked for, each once."""
    files = files_by_name(root / "config" / key, root, key, problems)
    if not wanted:
        problems.append(Problem(where, key, "nothing is named", f"{key}: [NAME, ...]; {nearest('', files)}"))
    names: dict[str, None] = {}
    for pattern in wanted:
        matches = fnmatch.filter(sorted(files), pattern)
        if not matches:
            problems.append(Problem(where, key, f"no file config/{key}/{pattern}.yaml", nearest(pattern, files)))
        names |= dict.fromkeys(matches)
    found = [
        (name, files[name].as_posix(), read_yaml(root / files[name], str(files[name]), problems)) for name in names
    ]
    checked = [
        (name, file, validate(kind(values), values, file, problems))
        for name, file, values in found
        if values is not None
    ]
    return [Named(name, file, settings) for name, file, settings in checked if settings is not None]


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
        if not NAME.fullmatch(name):
            fix = "use letters, digits, dot, dash and underscore: it becomes a folder's name"
            problems.append(Problem(str(paths[0]), "", f"{name!r} cannot be the name of one of the {key}", fix))
    return {name: paths[0] for name, paths in found.items()}


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not a silent overwrite."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    nodes = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]  # `<<: *anchor`
    keys = [loader.construct_object(key, deep=True) for key in nodes]
    for key_node, key in zip(nodes, keys, strict=True):
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path, where: str, problems: list[Problem]) -> Any:
    """A YAML file's value, or None with a problem that names the line in `where`."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        what = getattr(error, "problem", None) or str(error).partition("\n")[0]
        problems.append(Problem(place, "", f"not valid YAML: {what}", "mend the file"))
        return None
