"""Plan data sets that are tasks of lm-evaluation-harness: which they are, where their rows are, and their samples."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from shardmark import layout
from shardmark.config import Benchmark, RunConfig
from shardmark.config.dataset import Source
from shardmark.config.protocols import LM_EVAL, scoring_protocols
from shardmark.errors import Problem, UserError, collecting
from shardmark.lock.lock import Lock
from shardmark.plan.components import of_parts
from shardmark.plan.datasets import Counted, Described, PlannedDataset, Record, in_place, stage
from shardmark.plan.spool import Spool
from shardmark.records.base import to_json
from shardmark.records.dataset import DatasetRecord
from shardmark.records.origin import LmEvalOrigin, LmEvalTasks
from shardmark.store.hashes import HashCache
from shardmark.tasks import Sample, hub_rows, read_rows
from shardmark.tasks.extent import TASK, Extent, per_task
from shardmark.tasks.lm_eval.code import Code, code_identity
from shardmark.tasks.lm_eval.data import DataMap, Part, as_dataset, parts, read_data_map
from shardmark.tasks.lm_eval.documents import Splits
from shardmark.tasks.lm_eval.index import package_version, read_index, tasks_folder
from shardmark.tasks.lm_eval.samples import samples
from shardmark.tasks.lm_eval.select import LmEvalDataset, select
from shardmark.tasks.lm_eval.settings import TaskSettings


def expand(benchmark: Benchmark, where: str, problems: list[Problem]) -> list[LmEvalDataset]:
    """The data sets that the run's names of lm-eval's tasks stand for, each once."""
    run, found = benchmark.run, []
    if not benchmark.lm_eval:
        return []
    with collecting(problems):
        index = None
        if run.lm_eval_path:
            folder = tasks_folder(Path(run.lm_eval_path), where)
            index = read_index(folder, layout.LM_EVAL_INDEXES.folder(run.results))
        found = [d for named in benchmark.lm_eval for d in select(named, index, run, problems)]
    return list({dataset.name: dataset for dataset in found}.values())


def _need_code(dataset: LmEvalDataset, run: RunConfig) -> None:
    """Raises UserError for a data set that needs code which is not allowed."""
    functions = {*dataset.asking, *dataset.judging}
    if functions and not run.lm_eval_code:
        named = ", ".join(sorted({function.name for function in functions})[:3])
        what = f"{dataset.name} needs its own Python code ({named}), which is executed only if you allow it"
        fix = "lm_eval_code: true (it runs with your rights), or leave the task out"
        raise UserError(Problem(dataset.file, "lm_eval_code", what, fix))


def code_warning(datasets: Iterable[LmEvalDataset], where: str) -> list[Problem]:
    """What the summary says of code that is executed."""
    names = [dataset.name for dataset in datasets if dataset.asking or dataset.judging]
    if not names:
        return []
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [Problem(where, "lm_eval_code", f"Python code of lm-eval's tasks is executed for {shown}")]


@dataclass(frozen=True)
class _Sources:
    """The parts of a data set's tasks, and the commits of those on the Hub."""

    parts: dict[str, list[Part]]
    commits: dict[str, str]
    where: str

    def files(self) -> list[Path]:
        return sorted({part.file for found in self.parts.values() for part in found if part.file})

    def splits(self, task: TaskSettings, rows: Counted) -> Splits:
        """The rows of a task's splits. Those that are scored are counted."""
        found = {}
        for part in self.parts[task.task]:
            try:
                found[part.split] = as_dataset(self._rows(part), part.local)
            except (ValueError, TypeError, OverflowError) as error:  # pyarrow's errors are among them
                what = f"{part.file or part.hub}: its rows do not fit into columns: {error}"
                raise UserError(Problem(self.where, task.task, what, "give each column values of one type")) from error
        rows.number += len(found[str(task.eval_split)])
        return found

    def _rows(self, part: Part) -> Iterable[dict[str, Any]]:
        if part.file:
            return _file_rows(part.file, part.file.stat().st_mtime_ns)
        source = Source(hub=part.hub, config=part.config, split=part.split)
        return hub_rows(source, self.commits[str(part.hub)], self.where)


@lru_cache(maxsize=4)
def _file_rows(file: Path, changed: int) -> list[dict[str, Any]]:
    """The rows of a file, which MMLU's 57 subjects share."""
    return list(read_rows(file))


def plan_lm_eval(
    dataset: LmEvalDataset, benchmark: Benchmark, lock: Lock, hashes: HashCache, chat: bool = False
) -> PlannedDataset:
    """A data set with its task file in place, asked in chats or as texts. Raises UserError."""
    dataset = dataset.asked(chat)
    run, results = benchmark.run, Path(benchmark.run.results)
    problems: list[Problem] = []
    with collecting(problems):
        _need_code(dataset, run)
    with collecting(problems):
        sources, about = _resolved(dataset, run, lock, hashes)
    if problems:
        raise UserError(problems)

    def rendered() -> tuple[DatasetRecord, Spool]:
        rows = Counted()
        code = Code(dataset.root, run.lm_eval_code, dataset.file)
        code.check(dataset.judging)  # what it wants to import must not be missing first when answers are there
        with ExitStack() as steady:
            for file in sources.files():
                steady.enter_context(hashes.steady(file))
            extent = Extent(run.limit, TASK if dataset.group else None)
            found = samples(dataset, lambda task: sources.splits(task, rows), code, per_task(run.limit), extent)
            return stage(about, found, rows, results, extent)

    made_from = {
        "tasks": [_asked(task) for task in dataset.tasks],
        "origin": to_json(about.origin),
        "limit": run.model_dump()["limit"],
        "style": dataset.style.described(),
        "code": code_identity(dataset.asking, dataset.root),
    }
    return in_place(about, made_from, rendered, results)


def lm_eval_samples(dataset: LmEvalDataset, run: RunConfig, lock: Lock, limit: int) -> Iterator[Sample]:
    """The first samples of each of its tasks, without a plan. Raises UserError."""
    _need_code(dataset, run)
    sources, rows = _sources(dataset, run, lock), Counted()
    code = Code(dataset.root, run.lm_eval_code, dataset.file)
    return samples(dataset, lambda task: sources.splits(task, rows), code, limit)


def note_lm_eval(dataset: LmEvalDataset, run: RunConfig, lock: Lock, hashes: HashCache) -> None:
    """Put a data set into the lock. Raises UserError for rows that are missing."""
    _resolved(dataset, run, lock, hashes)


def _resolved(dataset: LmEvalDataset, run: RunConfig, lock: Lock, hashes: HashCache) -> tuple[_Sources, Described]:
    """Where its rows are, and what the task file says, which goes into the lock."""
    sources = _sources(dataset, run, lock)
    origin = _origin(dataset, sources, run, hashes)
    kind = "data_root" if origin.files else "hub"
    lock.note(("datasets", dataset.name, kind), _locked(dataset, origin, run))
    return sources, _described(dataset, origin, run.model_dump()["limit"])


def _asked(task: TaskSettings) -> Any:
    return {key: str(value) for key, value in task.model_dump().items()}


def _sources(dataset: LmEvalDataset, run: RunConfig, lock: Lock) -> _Sources:
    data: DataMap | None = None
    if run.data_root:
        data = read_data_map(Path(run.lm_eval_data), Path(run.data_root))
    problems: list[Problem] = []
    found: dict[str, list[Part]] = {}
    commits: dict[str, str] = {}
    for task in dataset.tasks:
        with collecting(problems):
            found[task.task] = parts(task, data, dataset.file)
            for part in found[task.task]:
                if part.file is None and part.hub not in commits:
                    commits[str(part.hub)] = lock.commit("dataset", str(part.hub), None, dataset.file)
    if problems:
        raise UserError(problems)
    return _Sources(found, commits, dataset.file)


def _origin(dataset: LmEvalDataset, sources: _Sources, run: RunConfig, hashes: HashCache) -> LmEvalOrigin:
    return LmEvalOrigin(
        lm_eval=LmEvalTasks(tasks=str(dataset.root), version=package_version(dataset.root), code=run.lm_eval_code),
        files={str(file): hashes.sha256(file) for file in sources.files()},
        hub=dict(sorted(sources.commits.items())),
    )


def _described(dataset: LmEvalDataset, origin: LmEvalOrigin, limit: object) -> Described:
    """What the task file says. Where the tasks and their code lie is told, but no part of what names the scores."""
    judged = dataset.described()
    code = code_identity(dataset.judging, dataset.root)
    settings = judged | {"executes": code_identity([*dataset.asking, *dataset.judging], dataset.root)}
    identity = {"lm_eval": judged["lm_eval"], "code": _portable(code, dataset.root)}
    protocols = scoring_protocols((), ()) | {"lm_eval": LM_EVAL}
    made_of = {
        "template": [_asked(task) for task in dataset.tasks],
        "few_shot": dataset.style.described(),
        "rows": limit,
        "code": settings["executes"],
        "metrics": judged,
        "revision": to_json(origin),
        "protocol": protocols,
    }
    return Described(
        name=dataset.name,
        file=dataset.file,
        kind=dataset.kind,
        settings=settings,
        judged=identity,
        protocols=protocols,
        origin=origin,
        components=of_parts(made_of),
    )


def _portable(code: dict[str, Any], root: Path) -> Any:
    """The hashes of code without the place where it lies on this machine."""
    return {key: sorted(value.values()) if isinstance(value, dict) else value for key, value in code.items()}


def _locked(dataset: LmEvalDataset, origin: LmEvalOrigin, run: RunConfig) -> Record:
    """What the lock keeps: the task, and files below data_root with their hashes, or commits on the Hub."""
    name = dataset.group.name if dataset.group else dataset.tasks[0].task
    record: Record = {"task": name, "lm_eval": origin.lm_eval.version}
    if not origin.files:
        return record | {"commits": origin.hub}
    root = Path(str(run.data_root)).expanduser()
    return record | {"files": {Path(file).relative_to(root).as_posix(): sha for file, sha in origin.files.items()}}
