"""Resolve the names in a configuration again, and update the lock.

Branches and tags are looked up on the Hub, never in its cache, which may be older than the lock. Files are hashed and
rows counted as in planning, but nothing is rendered: a mistake in a template is no reason to keep an old commit.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from shardmark import layout
from shardmark.config import Benchmark, DatasetConfig, Named, RunConfig, load, place_of
from shardmark.config.merge import Merged
from shardmark.config.weights import WeightsConfig
from shardmark.config.wording import WordedConfig
from shardmark.errors import Problem, UserError, collecting
from shardmark.lock.changes import Change
from shardmark.lock.contents import with_contents
from shardmark.lock.entries import dataset_record, note_dataset, note_model, possible_kinds
from shardmark.lock.lock import Lock
from shardmark.plan.lm_eval import expand, note_lm_eval
from shardmark.plan.models import resolve_model
from shardmark.plan.origins import dataset_origin, examples_origin, origin_rows
from shardmark.store.hashes import HashCache


def relock(run: Merged, root: Path, path: Path, check: bool = False, prune: bool = False) -> list[Change]:
    """The changes of the lock at `path` for the models and data sets that a run names; written unless `check`.

    With `prune`, drops entries that no file in config/models and config/datasets below `root` can refer to any more.
    With `check`, rows of a data set that moved on the Hub are not fetched to count them. Raises UserError with all
    problems, without writing anything.
    """
    problems: list[Problem] = []
    benchmark = load(run.config, root, run.where, problems, run.command_line)
    results = Path(benchmark.run.results)
    lock = Lock(path, anew=True)
    hashes = HashCache(layout.HASHES.file(results))
    for model in benchmark.models:
        with collecting(problems):
            (record,) = with_contents([resolve_model(model, lock, hashes)], results, lock)
            if not benchmark.run.hf_path:
                note_model(lock, model, record, results)
    for dataset in benchmark.datasets:
        with collecting(problems):
            _relock_dataset(dataset, benchmark.run, lock, hashes, check)
    for task in expand(benchmark, place_of("lm_eval_path", run.where, run.command_line), problems):
        with collecting(problems):
            note_lm_eval(task, benchmark.run, lock, hashes)
    if prune:
        _prune(lock, root, problems)
    with suppress(OSError):  # it only saves time
        hashes.save()
    if problems:
        raise UserError(problems)
    return lock.changes() if check else lock.save()


def _relock_dataset(dataset: Named[DatasetConfig], run: RunConfig, lock: Lock, hashes: HashCache, check: bool) -> None:
    source = dataset.settings.source
    files, origin = dataset_origin(dataset, run.data_root, lock, hashes)
    if examples := examples_origin(dataset, run.data_root, lock, hashes):
        origin = replace(origin, few_shot=examples[1])
    kind, record = dataset_record(dataset.settings, origin)
    known: dict[str, Any] = lock.get(("datasets", dataset.name, kind)) or {}
    rows = known.get("rows")
    if rows is None or known != record | {"rows": rows}:
        if not files and check:
            rows = None
        else:
            with hashes.steady(files):
                rows = sum(1 for _ in origin_rows(source, dataset.file, origin, lock))
    note_dataset(lock, dataset.name, dataset.settings, origin, rows)


def _prune(lock: Lock, root: Path, problems: list[Problem]) -> None:
    """Drop entries that neither this run names nor any file of config/ can refer to."""
    found: list[Problem] = []
    meant = _meant(load({"models": ["*"], "datasets": ["*"], "own_code": True}, root, "config", found)) | lock.used
    problems += [problem for problem in found if problem not in problems]
    for key in lock.known - meant:  # contents of commits go with the pins to them
        if "task" not in (lock.get(key) or ()):  # lm-eval's: finding out which are referred to takes its package
            lock.drop(key)
    lock.forget_unpinned()


def _meant(benchmark: Benchmark) -> set[tuple[str, str, str]]:
    """The keys of all entries that the models and data sets of a configuration may have."""
    keys: set[tuple[str, str, str]] = set()
    for model in benchmark.models:
        keys |= {("models", model.name, kind) for kind in possible_kinds(model.settings)}
        settings = model.settings
        if isinstance(settings, WordedConfig) and settings.tokenizer_path:
            keys.add(("hub", "model", f"{settings.tokenizer_path}@main"))
        if not isinstance(settings, WeightsConfig):
            continue
        keys |= {("hub", "model", f"{settings.path}@{settings.revision or 'main'}")} if settings.path else set()
        adapter = f"{settings.adapter}@{settings.adapter_revision or 'main'}"
        keys |= {("hub", "model", adapter)} if settings.adapter else set()
    for dataset in benchmark.datasets:
        keys |= {("datasets", dataset.name, kind) for kind in possible_kinds(dataset.settings)}
        for source in filter(None, (dataset.settings.source, dataset.settings.example_source())):
            keys |= {("hub", "dataset", f"{source.hub}@{source.revision or 'main'}")} if source.hub else set()
    return keys
