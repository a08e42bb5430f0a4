"""The files that a run needs to be planned, inferred and scored on a machine without a network."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from shardmark import layout
from shardmark.config import Benchmark, DatasetConfig, Named
from shardmark.config.include import files_read
from shardmark.config.merge import Merged
from shardmark.config.own_code import code_file, own_code
from shardmark.config.search_path import config_files, found_in, of_kind
from shardmark.config.suite import PREFIX, suite_file
from shardmark.config.weights import WeightsConfig
from shardmark.errors import Problem, UserError, collecting
from shardmark.installation import INSTALLATION
from shardmark.lock.lock import LOCK, Lock
from shardmark.plan.hub_files import places
from shardmark.plan.lm_eval import expand, rows_files
from shardmark.plan.plan import Plan
from shardmark.records.archive import Place
from shardmark.records.model import Folder, GgufFile
from shardmark.records.origin import FileOrigin, HubOrigin
from shardmark.store.archive import BLOB, Content, belongs_in_project
from shardmark.store.hub_cache import hub_cache, hub_home, repository_folder
from shardmark.store.partials import partial_files
from shardmark.tasks.lm_eval.index import package_folder, package_version
from shardmark.tasks.rows import kept_rows
from shardmark.tools.needs import needs_of

CODE = {".yaml", ".yml", ".py", ".jinja", ".json", ".jsonl", ".txt"}
"The suffixes of files in a folder of lm-eval's tasks."


class NeededFile(NamedTuple):
    """A file, and its place on another machine; as in `PackedFile`."""

    place: Place
    name: str
    content: Content
    blob: str = ""


class Needed(NamedTuple):
    """Everything that a run needs."""

    files: list[NeededFile]
    others: list[str]
    "Requirements that are not single files, such as packages."


def rows_folder() -> Path:
    """The folder for rows of the Hub."""
    return hub_home() / "shardmark" / "rows"


def needed_files(plan: Plan, run: Merged, root: Path, predictions: bool = False) -> Needed:
    """Everything that a planned run needs, with its predictions if wanted. Raises UserError if anything is missing."""
    problems: list[Problem] = []
    found = [*_config_files(plan.benchmark, run, root), *_model_files(plan, root, problems)]
    found += _rows_files(plan, root)
    with collecting(problems):
        found += _lm_eval_files(plan, root)
    found += _predictions(plan) if predictions else []
    for file in found:
        if isinstance(file.content, Path) and not file.content.is_file():
            fix = "run or stage this configuration first, where there is a network"
            problems.append(Problem(str(file.content), "", "is needed, but missing here", fix))
        if file.place == "project" and not belongs_in_project(file.name):
            what = "is needed, but cannot be unpacked to its place: it is hidden, or in a folder of Shardmark's own"
            problems.append(Problem(file.name, "", what, "move it to another folder, such as data/"))
    if problems:
        raise UserError(problems)
    found.sort(key=lambda file: isinstance(file.content, Path) and file.content.is_relative_to(root))
    files = {(file.place, file.name): file for file in found}  # if two share a name, the user's
    return Needed([files[key] for key in sorted(files)], sorted({*_others(plan)}))


def _local(path: Path, root: Path) -> NeededFile:
    """A file on this machine: of the project, or outside."""
    absolute = Path(os.path.abspath(path.expanduser()))
    for folder in (root, Path(INSTALLATION)):  # a shipped file becomes the user's there, whatever is shipped there
        if absolute.is_relative_to(folder):
            return NeededFile("project", absolute.relative_to(folder).as_posix(), absolute)
    return NeededFile("outside", absolute.as_posix().lstrip("/"), absolute)


def config_elsewhere(run: Merged) -> dict[str, Any]:
    """A run's configuration without places that only this machine has."""
    config = {key: value for key, value in run.config.items() if key not in ("store", "store_trust", "vllm_python")}
    if os.path.isabs(str(config.get("results", ""))):
        del config["results"]
    return config


def _config_files(benchmark: Benchmark, run: Merged, root: Path) -> Iterator[NeededFile]:
    """The run's configuration in one file, the files that it names with those they include, and the lock."""
    text = yaml.safe_dump(config_elsewhere(run), allow_unicode=True)
    yield NeededFile("project", f"config/packed_{benchmark.run.run}.yaml", text.encode())
    wanted = config_names(benchmark, root)
    yield from (_local(root / name, root) for name in sorted(wanted) if of_kind(Path(name), "suites"))
    for folder in ("models", "datasets"):
        files = config_files(folder, root, [])
        for path in files.all.values():
            if path.as_posix() in wanted:
                yield from (_local(root / file, root) for file in files_read(path, root, files))
    if benchmark.lm_eval and benchmark.run.data_root:
        yield _local(found_in(benchmark.run.lm_eval_data, root), root)
    if (root / LOCK).is_file():
        yield _local(root / LOCK, root)


def config_names(benchmark: Benchmark, root: Path) -> set[str]:
    """The files of config/ that a run names, without those that they include."""
    named: list[Named] = [*benchmark.models, *benchmark.datasets, *benchmark.groups, *benchmark.lm_eval]  # type: ignore[type-arg]
    suites = {str(suite_file(name, root)) for name in benchmark.run.datasets if name.startswith(PREFIX)}
    return {each.file for each in named} | suites


def _model_files(plan: Plan, root: Path, problems: list[Problem]) -> Iterator[NeededFile]:
    cache = hub_cache()
    for place in places(plan.models):
        identity = place.repository.identity
        if not place.files:
            what = f"{identity.repository} of model {place.model.name} is not in the Hub's cache"
            fix = "run or stage this configuration first, where there is a network"
            problems.append(Problem(place.model.file, place.key, what, fix))
        for name in place.files:
            path = place.folder / name
            blob = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
            relative = path.relative_to(cache).as_posix()
            yield NeededFile("hub", relative, path, blob if BLOB.fullmatch(blob) else "")
        tree = repository_folder("model", identity.repository) / "trees" / f"{identity.commit}.json"
        if tree.is_file():
            yield NeededFile("hub", tree.relative_to(cache).as_posix(), tree)
    for model in plan.models:
        for source in model.locations:
            if isinstance(source, Folder):
                yield from (_local(Path(source.path) / name, root) for name in source.identity)
            elif isinstance(source, GgufFile) and not _package(model.settings):
                yield _local(Path(source.path), root)


def _package(settings: object) -> str:
    """The package that contains a model's weights, if any."""
    return str(settings.gguf_package or "") if isinstance(settings, WeightsConfig) else ""


def _rows_files(plan: Plan, root: Path) -> Iterator[NeededFile]:
    settings = {dataset.name: dataset for dataset in plan.benchmark.datasets}
    for record in plan.datasets:
        if record.name not in settings:
            continue  # lm-eval's
        dataset = settings[record.name]
        pairs = [(dataset.settings.source, record.origin)]
        if isinstance(record.origin, FileOrigin | HubOrigin) and record.origin.few_shot:
            pairs.append((dataset.settings.example_source() or dataset.settings.source, record.origin.few_shot))
        for source, origin in pairs:
            if isinstance(origin, FileOrigin):
                yield from (_local(Path(file), root) for file in origin.files or [origin.file])
            elif isinstance(origin, HubOrigin):
                yield _kept(kept_rows(source, origin.commit))
        yield from _embedding_model(dataset, root)
        yield from (_local(code_file(own, dataset.file, root), root) for _, own in own_code(dataset.settings))


def _kept(path: Path) -> NeededFile:
    return NeededFile("rows", path.relative_to(rows_folder()).as_posix(), path)


def _embedding_model(dataset: Named[DatasetConfig], root: Path) -> Iterator[NeededFile]:
    """The files of the model that selects few-shot examples."""
    if folder := dataset.settings.few_shot and dataset.settings.few_shot.embedding_model:
        yield from (_local(path, root) for path in sorted(Path(folder).expanduser().rglob("*")) if path.is_file())


def _lm_eval_files(plan: Plan, root: Path) -> list[NeededFile]:
    """Rows of lm-eval's tasks, and the tasks if they are in the user's own folder. Raises UserError."""
    problems: list[Problem] = []
    lock, run, found = Lock(root / LOCK), plan.benchmark.run, []
    roots = set()
    for dataset in expand(plan.benchmark, "lm_eval_path", problems):
        for path in rows_files(dataset, run, lock):
            found.append(_kept(path) if path.is_relative_to(rows_folder()) else _local(path, root))
        roots.add(dataset.root)
    for folder in sorted(path for path in roots if not package_folder(path)):
        files = (path for path in sorted(folder.rglob("*")) if path.suffix in CODE and path.is_file())
        found += [_local(path, root) for path in files]
    if problems:
        raise UserError(problems)
    return found


def _predictions(plan: Plan) -> Iterator[NeededFile]:
    for key in sorted(needs_of([plan]).prediction):
        model, dataset, shard = key.split("/")
        path = layout.PREDICTIONS.file(plan.results, model=model, dataset=dataset, shard=shard)
        for found in [path] if path.is_file() else partial_files(path):
            yield NeededFile("results", found.relative_to(plan.results).as_posix(), found)


def _others(plan: Plan) -> Iterator[str]:
    """Requirements that the other machine must provide by itself."""
    for model in plan.models:
        if package := _package(model.settings):
            yield f"the package {package} (model {model.name})"
        if model.settings.backend != "transformers":
            yield f"the requirements of backend {model.settings.backend} (model {model.name})"
    path = plan.benchmark.run.lm_eval_path
    for dataset in expand(plan.benchmark, "lm_eval_path", []):
        if package_folder(dataset.root):
            yield f"lm-eval {package_version(dataset.root)} at lm_eval_path ({path})"
