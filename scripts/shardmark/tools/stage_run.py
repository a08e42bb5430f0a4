"""Fetch and pin everything that a run needs from the Hub, so that it needs no network afterwards.

Models are downloaded in parallel, several repositories and several files of each, by huggingface_hub, which resumes
interrupted downloads; rows are read by `datasets`, one data set after the other. Nothing is planned: a mistake in a
template is no reason to fetch nothing. Everything that could be fetched stays, and all failures are in one list.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace
from rich.filesize import decimal

from shardmark import layout
from shardmark.config import Benchmark, DatasetConfig, Named, load, place_of
from shardmark.config.merge import Merged
from shardmark.config.offline import is_offline
from shardmark.engine.download import fetch
from shardmark.errors import Problem, UserError, collecting
from shardmark.lock.contents import patterns_for, with_contents
from shardmark.lock.entries import note_dataset, note_model
from shardmark.lock.lock import Lock
from shardmark.plan.hub_files import Place, missing, no_room, places
from shardmark.plan.lm_eval import expand, fetch_lm_eval
from shardmark.plan.models import resolve_model
from shardmark.plan.origins import dataset_origin, examples_origin, origin_rows
from shardmark.plan.sizes import with_parameters
from shardmark.records.model import ModelRecord
from shardmark.store.contents import ContentHashes
from shardmark.store.hashes import HashCache

AT_ONCE = 4
"Repositories downloaded in parallel; huggingface_hub fetches eight files of each in parallel."
Tell = Callable[[str], object]


class Staged(NamedTuple):
    """Everything that is on this machine now."""

    repositories: int
    bytes: int
    datasets: int


def stage_run(run: Merged, root: Path, path: Path, tell: Tell = lambda line: None) -> Staged:
    """Fetch what the models and data sets of a run need, and pin it in the lock at `path`.

    `tell` gets a line for each repository and data set. Raises UserError with everything that cannot be fetched.
    """
    problems: list[Problem] = []
    benchmark = load(run.config, root, run.where, problems, run.command_line)
    if benchmark.run.offline is True:
        what, fix = (
            "is true, so nothing can be downloaded",
            "call stage with --config offline=false, or set offline: auto",
        )
        raise UserError([*problems, Problem(place_of("offline", run.where, run.command_line), "offline", what, fix)])
    results = Path(benchmark.run.results)
    lock = Lock(path, benchmark.run.frozen, kept=layout.PINS.file(results))
    hashes = HashCache(layout.HASHES.file(results))
    models = _models(benchmark, results, lock, hashes, problems)
    wanted = list({(place.folder, place.key): place for place in places(models)}.values())
    to_fetch = {fault.path: fault.size or 0 for place in wanted for fault in missing(place)}
    names = ", ".join(sorted({place.name for place in wanted if missing(place)}))
    if wanted and (full := no_room(sum(to_fetch.values()), names, wanted[0])):
        raise UserError([*problems, full])
    if not is_offline():
        lock.save()  # pins stay, whatever happens to the downloads
    with ThreadPoolExecutor(AT_ONCE) as pool:
        downloads = [pool.submit(_download, place, ContentHashes(results), tell) for place in wanted]
        count = _rows(benchmark, run, lock, hashes, problems, tell)
        for download in downloads:
            with collecting(problems):
                download.result()
    hashes.save()
    problems += lock.refusals()
    if problems:
        lock.save()
        raise UserError(problems)
    lock.save()
    sizes = {place.folder / name: file.size or 0 for place in wanted for name, file in place.files.items()}
    return Staged(len({place.folder for place in wanted}), sum(sizes.values()), count)


def _models(
    benchmark: Benchmark, results: Path, lock: Lock, hashes: HashCache, problems: list[Problem]
) -> list[ModelRecord]:
    """The records of the run's models, pinned."""
    found: list[ModelRecord] = []
    for model in benchmark.models:
        with collecting(problems):
            record = resolve_model(model, lock, hashes)
            (record,) = with_contents(with_parameters([record], results, lock), results, lock)
            if not benchmark.run.hf_path:
                note_model(lock, model, record, results)
            found.append(record)
    return found


def _download(place: Place, hashes: ContentHashes, tell: Tell) -> None:
    size = sum(fault.size or 0 for fault in missing(place))
    if size or not place.files:
        tell(f"{place.name}: downloading {decimal(size) if size else 'all files'}")
    fetch(place, *patterns_for(place.model, place.key), hashes)
    tell(f"{place.name}: {decimal(sum(file.size or 0 for file in place.files.values()))} are here and intact")


def _rows(benchmark: Benchmark, run: Merged, lock: Lock, hashes: HashCache, problems: list[Problem], tell: Tell) -> int:
    """Read the rows of all data sets; returns the number of data sets."""
    tasks = expand(benchmark, place_of("lm_eval_path", run.where, run.command_line), problems)
    for dataset in benchmark.datasets:
        with collecting(problems):
            for line in _read(dataset, benchmark, lock, hashes):
                tell(line)
    for task in tasks:
        with collecting(problems):
            rows = fetch_lm_eval(task, benchmark.run, lock, hashes)
            tell(f"{task.name}: {rows:,} rows")
    return len(benchmark.datasets) + len(tasks)


def _read(dataset: Named[DatasetConfig], benchmark: Benchmark, lock: Lock, hashes: HashCache) -> Iterator[str]:
    settings, data_root = dataset.settings, benchmark.run.data_root
    files, origin = dataset_origin(dataset, data_root, lock, hashes)
    if examples := examples_origin(dataset, data_root, lock, hashes):
        source = settings.example_source()
        assert source is not None
        for _ in origin_rows(source, dataset.file, examples[1], lock):
            pass
        origin = replace(origin, few_shot=examples[1])
    with hashes.steady(files):
        rows = sum(1 for _ in origin_rows(settings.source, dataset.file, origin, lock))
    note_dataset(lock, dataset.name, settings, origin, rows)
    yield f"{dataset.name}: {rows:,} rows"
