"""Stage a data set: its samples as a task file, its requests as request files, named by their contents.

The result is remembered under the digest of everything it was made from, so that the next parse reads two small files
instead of rendering every row again.
"""

import functools
import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from shardmark import layout
from shardmark.config import Benchmark, DatasetConfig, Named
from shardmark.config.asking import as_asked
from shardmark.config.protocols import scoring_protocols
from shardmark.config.search_path import as_spelt
from shardmark.errors import Problem, UserError, collecting
from shardmark.files import (
    digest,
    json_line,
    pretty_json,
    sealed,
    whole_file,
    write_if_changed,
)
from shardmark.lock.lock import Lock
from shardmark.plan.code import code_digest
from shardmark.plan.components import components
from shardmark.plan.cost import CHARACTERS_PER_TOKEN, tokens_of
from shardmark.plan.origins import dataset_origin, examples_origin, origin_rows
from shardmark.plan.shards import Placed, Shard, split
from shardmark.plan.spool import Spool
from shardmark.records.base import find_sealed, shallow, to_json
from shardmark.records.dataset import DatasetRecord, TaskDataset, TaskHeader, TaskLine, TaskTurn
from shardmark.records.origin import FileOrigin, Origin, RowsOrigin
from shardmark.records.request import ChatShape
from shardmark.records.shard import ShardLists, ShardRecord
from shardmark.records.trailer import Work
from shardmark.store.hashes import HashCache
from shardmark.store.requests import read_requests
from shardmark.store.tasks import read_header
from shardmark.tasks import FileRows, Row, Sample, render
from shardmark.tasks.extent import Extent
from shardmark.tasks.remarks import Remark, told
from shardmark.tasks.requests import chats_of

Record = dict[str, Any]
RENDERING = ("settings.py", "untrusted", "texts", "filters", "metrics", "config", "records", "tasks", "plan")
"The parts of the library that decide a data set's requests and scores: it is rendered again when they change."

MOST_CHATS = 100
"The most shapes of chats recorded for a data set with many different ones; jobs check all of theirs."


@dataclass(frozen=True)
class Described:
    """Facts about a data set for its task file."""

    name: str
    file: str
    "Its name in messages."
    kind: str
    settings: Record
    judged: Record
    "The settings that decide scores."
    protocols: dict[str, int]
    "The versions of the code that decides scores."
    origin: Origin
    "The source of its rows."
    components: dict[str, str]
    "The digest of each part; see components.py."


class PlannedDataset:
    """A data set whose task file is in place, and whose requests can be divided into any number of shards."""

    def __init__(self, record: DatasetRecord, results: Path, spool: Spool | None, render: Callable[[], Spool]) -> None:
        self.record = record
        self._results = results
        self._requests = layout.REQUESTS.folder(results, dataset=record.name)
        self._file = layout.SHARDS.file(results, dataset=record.name, task=record.digest)
        found = find_sealed(self._file, ShardLists)
        self._levels = found.levels if found else {}
        self._spool = spool
        self._render = render
        self._kin: dict[str, bool] = {}

    def relatives(self, names: Iterable[str]) -> set[str]:
        """The data sets among `names` whose rows are, or once were, read from the same place as this one's."""
        mine = self.record.origin.places if self.record.origin else set()
        for name in names:
            if name not in self._kin:
                headers = map(read_header, layout.TASKS.found(self._results, dataset=name))
                self._kin[name] = any(mine & header.dataset.origin.places for header in headers if header)
        return {name for name in names if self._kin[name]}

    @functools.cached_property
    def _there(self) -> set[str]:
        return set(os.listdir(self._requests)) if self._requests.is_dir() else set()

    def shards(self, bits: int) -> int:
        """The most shards of a division; exact if it has been made before."""
        return len(self._levels.get(str(bits), range(min(1 << bits, self.record.requests))))

    def level(self, bits: int) -> list[ShardRecord]:
        """The shards of a division by `bits` leading bits, each with its name and size; their request files exist."""
        known = self._levels.get(str(bits))
        if known and self._whole(known):
            return known
        self._spool = self._spool or self._respooled()
        shards = split(self._spool.placed(), bits)
        self._spool.write(self._requests, shards)
        self._levels[str(bits)] = [_recorded(shard, self.record.head) for shard in shards]
        self.__dict__.pop("_there", None)
        write_if_changed(self._file, json_line(sealed(to_json(ShardLists(levels=self._levels)))))
        return self._levels[str(bits)]

    def _whole(self, level: list[ShardRecord]) -> bool:
        return all(f"{shard.name}.jsonl" in self._there for shard in level)

    def _respooled(self) -> Spool:
        """The requests from another division of them, which is faster than rendering them again."""
        level = next(filter(self._whole, self._levels.values()), None)
        if level is None:
            return self._render()
        spool = Spool(self._file.parent)
        try:
            for shard in level:
                for key, request in read_requests(self._requests / f"{shard.name}.jsonl").items():
                    spool.add(key, request, self.record.head)
        except (UserError, OSError):
            return self._render()
        return spool


def folder_hashes(folder: Path, hashes: HashCache) -> dict[str, str]:
    """The hashes of all files in an existing folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashes.sha256(path) for path in files}


def plan_dataset(
    dataset: Named[DatasetConfig], benchmark: Benchmark, lock: Lock, hashes: HashCache, chat: bool = False
) -> PlannedDataset:
    """A data set with its task file in place, asked in a chat or as a text.

    Raises UserError for rows that are missing or cannot be rendered.
    """
    run, results = benchmark.run, Path(benchmark.run.results)
    problems: list[Problem] = []
    with collecting(problems):
        paths, origin = dataset_origin(dataset, run.data_root, lock, hashes)
    with collecting(problems):
        settings = as_asked(dataset.settings, run, chat, dataset.file)
    if problems:
        raise UserError(problems)
    made_from: Record = {"rows": origin_content(origin), "limit": run.model_dump()["limit"]}
    examples = examples_origin(dataset, run.data_root, lock, hashes)
    if examples:
        origin = replace(origin, few_shot=examples[1])
        made_from["few_shot"] = origin_content(examples[1])
    if model := settings.few_shot and settings.few_shot.embedding_model:
        made_from["embedding_model"] = folder_hashes(Path(model).expanduser(), hashes)
    about = described(dataset, settings, made_from, origin)

    def rendered() -> tuple[DatasetRecord, Spool]:
        with hashes.steady([*paths, *(examples[0] if examples else ())]):
            rows = Counted(origin_rows(settings.source, dataset.file, origin, lock))
            shots: Iterable[Row] = ()
            if examples and (source := settings.example_source()):
                shots = origin_rows(source, dataset.file, examples[1], lock)
            extent = Extent(run.limit, settings.group_by)
            found = render(settings, rows, dataset.file, run.limit, shots, extent)
            return stage(about, found, rows, results, extent)

    return in_place(about, made_from, rendered, results)


def described(
    dataset: Named[DatasetConfig], settings: DatasetConfig, made_from: Record, origin: RowsOrigin
) -> Described:
    """The facts in the task file of a data set with these settings, asked in one way."""
    chains = [settings.filters, *settings.chains.values()]
    protocols = scoring_protocols(
        (metric.name for metric in settings.metrics),
        (each.name for chain in chains for each in chain),
        settings.is_repeated,
    )
    return Described(
        name=dataset.name,
        file=dataset.file,
        kind=settings.kind,
        settings=as_spelt(settings.model_dump()),
        judged=settings.model_dump(exclude={"description", "source", "few_shot"}),
        protocols=protocols,
        origin=origin,
        components=components(settings, made_from, protocols),
    )


def in_place(
    about: Described, made_from: Record, rendered: Callable[[], tuple[DatasetRecord, Spool]], results: Path
) -> PlannedDataset:
    """A data set whose task file was made before from the same parts, or else is made now."""
    code = code_digest(results, *RENDERING)
    identity = digest({"name": about.name, "settings": about.settings, "code": code, **made_from})
    memo = layout.MEMOS.file(results, memo=layout.full_name(about.name, identity))
    origin = about.origin
    known = find_sealed(memo, DatasetRecord)
    if known and _in_place(_task_file(results, known.name, known.digest), about):
        return PlannedDataset(replace(known, origin=origin), results, None, lambda: rendered()[1])
    record, spool = rendered()
    write_if_changed(memo, pretty_json(sealed(to_json(record))))
    return PlannedDataset(replace(record, origin=origin), results, spool, lambda: spool)


def origin_content(origin: RowsOrigin) -> Any:
    """The content that identifies the rows: for a file, wherever it is, its hash."""
    return origin.sha256 if isinstance(origin, FileOrigin) else to_json(origin)


def _task_file(results: Path, name: str, digest: str) -> Path:
    return layout.TASKS.file(results, dataset=name, task=digest)


def _in_place(task: Path, about: Described) -> bool:
    """Whether a task file is there whose first line has the same facts, even those that its name does not cover."""
    header = read_header(task)
    if header is None:
        return False
    told = header.settings, header.dataset.origin, header.dataset.components
    return told == (about.settings, about.origin, about.components)


def stage(
    about: Described, found: Iterable[Sample], rows: "Counted", results: Path, extent: Extent
) -> tuple[DatasetRecord, Spool]:
    """Take the samples one by one, and write the task file when all are there.

    `rows` and `extent` have counted theirs by then. The part that a limit leaves out is included in the scores' names,
    which show it; without a limit, nothing is added.
    """
    tasks = layout.TASKS.folder(results)
    spool = Spool(tasks)
    samples, head, hashed = 0, 0, hashlib.sha256()
    remarks: Counter[Remark] = Counter()
    chats: dict[ChatShape, None] = {}
    with tempfile.TemporaryFile(dir=tasks) as lines:
        for sample in found:
            line = json_line(shallow(task_line(sample))).encode()
            hashed.update(line)
            lines.write(line)
            for asked in sample.rotations:
                spool.add(asked.request_id, asked.request, asked.head)
            samples, head = samples + 1, sample.head
            if sample.remarks:
                remarks.update(sample.remarks)
            if len(chats) < MOST_CHATS:
                chats |= dict.fromkeys(chat.shape for chat in chats_of(sample.request))
        words, cut = told(remarks, samples), extent.record()
        identity = digest([about.judged, hashed.hexdigest(), about.protocols, *([to_json(cut)] if cut else [])])
        dataset = TaskDataset(
            name=about.name,
            file=about.file,
            digest=identity,
            origin=about.origin,
            rows=rows.number,
            is_chat=bool(chats),
            remarks=words,
            limit=cut,
            components=about.components,
        )
        header = TaskHeader(dataset=dataset, settings=about.settings, samples_sha256=hashed.hexdigest())
        task = _task_file(results, about.name, identity)
        if not (task.is_file() and _in_place(task, about)):
            lines.seek(0)
            with whole_file(task) as file:
                file.write(json_line(sealed(to_json(header))).encode())
                shutil.copyfileobj(lines, file)
    placed = spool.placed()
    record = DatasetRecord(
        name=about.name,
        digest=identity,
        file=about.file,
        kind=about.kind,
        is_chat=bool(chats),
        chats=[*chats],
        samples=samples,
        rows=rows.number,
        requests=len(placed),
        head=head,
        remarks=words,
        limit=cut,
        **asdict(_work(placed, head)),
    )
    return record, spool


def _recorded(shard: Shard, head: int) -> ShardRecord:
    work = _work(shard.requests, head)
    return ShardRecord(name=shard.name, requests=len(shard.requests), **asdict(work))


def _work(requests: Collection[Placed], head: int) -> Work:
    """The work of some requests, all of which begin with the same `head` characters."""
    read = head // CHARACTERS_PER_TOKEN + sum(request.read for request in requests)
    return tokens_of(read, (request.written for request in requests))


class Counted:
    """Rows that are counted as they pass through."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.rows, self.number = rows, 0

    def __iter__(self) -> Iterator[Row]:
        for row in self.rows:
            self.number += 1
            yield row

    def place(self, number: int) -> str:
        """The file, of several, that a row is in."""
        return self.rows.place(number) if isinstance(self.rows, FileRows) else ""


def task_line(sample: Sample) -> TaskLine:
    """The facts about a sample that scoring needs besides the prediction."""
    return TaskLine(
        sample=sample.id,
        request=sample.request_id,
        target=sample.target,
        row=sample.row,
        choices=sample.choices,
        group=sample.group,
        lm_eval=sample.lm_eval or None,
        turns=[TaskTurn(request=t.request_id, target=t.target, choices=t.choices) for t in sample.turns],
    )
