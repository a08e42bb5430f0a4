"""Plans without weights, data files and the Hub: a run is scored again from the lock and earlier records.

A model is the one whose record has the digest computed from its file and the recorded hashes. A data set is the task
file made from the same rows and with the same questions, whatever its metrics were. Nothing else is accepted.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from msgspec.structs import replace

from shardmark import layout
from shardmark.config import Benchmark, DatasetConfig, ModelConfig, Named
from shardmark.config.asking import as_asked
from shardmark.config.run import GroupLimit
from shardmark.errors import Problem, UserError
from shardmark.files import digest, json_line, sealed, write_if_changed, write_whole
from shardmark.lock.entries import MODEL_KINDS, dataset_record, model_entry
from shardmark.lock.lock import Lock
from shardmark.plan.datasets import (
    Described,
    PlannedDataset,
    described,
    folder_hashes,
    origin_content,
)
from shardmark.plan.models import identified, resolve_model
from shardmark.plan.pairs import Pair
from shardmark.plan.template_lookup import has_template
from shardmark.records.base import find_sealed, shallow, to_json
from shardmark.records.dataset import DatasetRecord, TaskHeader, TaskLine
from shardmark.records.gap import Gap, Name
from shardmark.records.model import ModelRecord
from shardmark.records.origin import RowsOrigin
from shardmark.records.shard import ShardLists
from shardmark.store.hashes import HashCache
from shardmark.store.tasks import read_header, read_task

JUDGED = {"filters", "metrics", "protocol", "version"}
"The parts of a data set that may have changed since its requests were made."
NO_RECORD = "for rescore, there is no record of it by an earlier run of this configuration in {place}"
NOT_INFERRED = "no answers to {requests} of {of} requests, and rescore infers nothing"


def recorded_model(model: Named[ModelConfig], lock: Lock, hashes: HashCache, results: Path) -> ModelRecord:
    """A model that may no longer be there, from the records of earlier runs. Raises UserError if there is none."""
    try:
        return resolve_model(model, lock, hashes)
    except UserError as error:
        for record in _records(model, results):
            if _fits(model, record, lock):
                return replace(record, file=model.file, settings=model.settings)
        raise without_record(error, layout.MODELS.file(results, model=f"{model.name}@*")) from error


def without_record(error: UserError, place: Path) -> UserError:
    """The error, with the remark that no record helps."""
    what = NO_RECORD.format(place=place)
    return UserError(Problem(one.where, one.key, f"{one.what}; {what}", one.fix) for one in error.problems)


def _records(model: Named[ModelConfig], results: Path) -> Iterator[ModelRecord]:
    """The records of a model that match the present settings of its file, the newest first."""
    files = layout.MODELS.found(results, model=f"{model.name}@*")
    for file in sorted(files, key=lambda file: file.stat().st_mtime_ns, reverse=True):
        record = find_sealed(file, ModelRecord)
        if record and identified(model, record.source, record.tokenizer, record.adapter).digest == record.digest:
            yield record


def _fits(model: Named[ModelConfig], record: ModelRecord, lock: Lock) -> bool:
    """Whether the lock has no conflicting facts about a model."""
    entry = lock.get(("models", model.name, MODEL_KINDS[type(record.source)]))
    return entry is None or model_entry(record).items() <= entry.items()


def recorded_template(record: ModelRecord, results: Path, lock: Lock) -> bool:
    """Whether a model had a chat template: the lock knows even if it is gone."""
    entry = lock.get(("models", record.name, MODEL_KINDS[type(record.source)])) or {}
    return bool(entry["chat_template"]) if "chat_template" in entry else has_template(record, results, lock)


def recorded_dataset(
    dataset: Named[DatasetConfig], benchmark: Benchmark, lock: Lock, hashes: HashCache, chat: bool, error: UserError
) -> PlannedDataset:
    """A data set whose rows cannot be read any more, scored with the present settings of its file.

    Raises `error`, the reason why they cannot be read, if no task file has the same rows and questions.
    """
    results = Path(benchmark.run.results)
    settings = as_asked(dataset.settings, benchmark.run, chat, dataset.file)
    tasks = layout.TASKS.found(results, dataset=dataset.name)
    for task in sorted(tasks, key=lambda task: task.stat().st_mtime_ns, reverse=True):
        header = read_header(task)
        if header is None or not isinstance(header.dataset.origin, RowsOrigin) or header.dataset.is_chat != chat:
            continue
        about = _described(dataset, settings, benchmark, header.dataset.origin, hashes)
        known = header.dataset.components
        differing = {part for part in about.components if about.components[part] != known.get(part)}
        record = memo(header, results)
        if differing <= JUDGED and record and _is_locked(dataset, header.dataset.origin, lock):
            return _judged_anew(about, settings, benchmark, task, record)
    raise without_record(error, layout.TASKS.file(results, dataset=dataset.name, task="*"))


def _described(
    dataset: Named[DatasetConfig],
    settings: DatasetConfig,
    benchmark: Benchmark,
    origin: RowsOrigin,
    hashes: HashCache,
) -> Described:
    made_from = {"rows": origin_content(replace(origin, few_shot=None)), "limit": benchmark.run.model_dump()["limit"]}
    if isinstance(origin.few_shot, RowsOrigin):
        made_from["few_shot"] = origin_content(origin.few_shot)
    if model := settings.few_shot and settings.few_shot.embedding_model:
        made_from["embedding_model"] = folder_hashes(Path(model).expanduser(), hashes)
    return described(dataset, settings, made_from, origin)


def memo(header: TaskHeader, results: Path) -> DatasetRecord | None:
    """An earlier plan's record of a data set."""
    found = (find_sealed(file, DatasetRecord) for file in layout.MEMOS.found(results, memo=f"{header.dataset.name}@*"))
    return next((record for record in found if record and record.digest == header.dataset.digest), None)


def _is_locked(dataset: Named[DatasetConfig], origin: RowsOrigin, lock: Lock) -> bool:
    """Whether the lock has no conflicting facts about a data set's rows."""
    kind, record = dataset_record(dataset.settings, origin)
    entry = lock.get(("datasets", dataset.name, kind))
    return entry is None or record.items() <= entry.items()


def _judged_anew(
    about: Described, settings: DatasetConfig, benchmark: Benchmark, task: Path, record: DatasetRecord
) -> PlannedDataset:
    """The data set of a task file with new filters and metrics: the same requests, in the same shards."""
    results = Path(benchmark.run.results)
    header, lines = read_task(task)
    if settings.group_by != header.settings.get("group_by"):
        if isinstance(benchmark.run.limit, GroupLimit):
            what = "group_by and limit.per_group select other rows, which are no longer available"
            raise UserError(Problem(about.file, "group_by", what, "restore the rows, or the earlier group_by"))
        lines = [replace(line, group=_group(line, settings.group_by, about.file)) for line in lines]
    return with_other_scores(about, header, lines, record, results)


def with_other_scores(
    about: Described, header: TaskHeader, lines: list[TaskLine], record: DatasetRecord, results: Path
) -> PlannedDataset:
    """The data set of a task file with the filters and metrics of `about`, and its shards."""
    content = "".join(json_line(shallow(line)) for line in lines)
    samples = hashlib.sha256(content.encode()).hexdigest()
    cut = header.dataset.limit
    identity = digest([about.judged, samples, about.protocols, *([to_json(cut)] if cut else [])])
    told = replace(header.dataset, digest=identity, components=about.components, file=about.file)
    anew = TaskHeader(dataset=told, settings=about.settings, samples_sha256=samples)
    place = {"dataset": about.name, "task": identity}
    if read_header(layout.TASKS.file(results, **place)) != anew:
        write_whole(layout.TASKS.file(results, **place), json_line(sealed(to_json(anew))) + content)
    lists = find_sealed(layout.SHARDS.file(results, dataset=about.name, task=header.dataset.digest), ShardLists)
    shards = layout.SHARDS.file(results, **place)
    if lists and not find_sealed(shards, ShardLists):
        write_if_changed(shards, json_line(sealed(to_json(lists))))
    found = replace(record, digest=identity, file=about.file, origin=header.dataset.origin)
    return as_recorded(found, results)


def as_recorded(record: DatasetRecord, results: Path) -> PlannedDataset:
    """A data set whose rows are not read again."""
    return PlannedDataset(record, results, None, lambda: _no_requests(record))


def _group(line: TaskLine, column: str | None, where: str) -> str | None:
    if column is None:
        return None
    if not isinstance(line.row, dict) or line.row.get(column) is None:
        raise UserError(Problem(where, "group_by", f"sample {line.sample} has no column {column!r}", "name another"))
    return str(line.row[column])


def _no_requests(record: DatasetRecord) -> NoReturn:
    what = f"its requests are no longer in results/requests/{record.name}, and its rows are gone, too"
    raise UserError(Problem(record.file, "source", what, "restore the rows"))


def lack(pair: Pair, unscorable: Mapping[str, str]) -> str:
    """The reason why a pair is not reported without inference: answers are missing, or what its scores are made with.

    `unscorable` has the reason for each data set that cannot be scored, by its full name.
    """
    if pair.missing:
        return NOT_INFERRED.format(requests=f"{pair.requests:,}", of=f"{pair.dataset.requests:,}")
    return "" if pair.scored else unscorable.get(pair.dataset.full_name, "")


def gap(pair: Pair, reason: str) -> Gap:
    """A pair in a report without inference that has no scores."""
    model = Name(name=pair.model.name, digest=pair.model.digest)
    dataset = Name(name=pair.dataset.name, digest=pair.dataset.digest)
    return Gap(model=model, dataset=dataset, status="not run", reason=reason)
