"""Plan data sets that are tasks of lm-evaluation-harness: the tasks, the places of their rows, and samples."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from shardmark import layout
from shardmark.config import Benchmark, RunConfig
from shardmark.config.dataset import Source
from shardmark.config.protocols import LM_EVAL, scoring_protocols
from shardmark.config.search_path import found_in
from shardmark.errors import Problem, UserError, collecting
from shardmark.lock.lock import Lock
from shardmark.plan.components import of_parts
from shardmark.plan.datasets import Counted, Described, PlannedDataset, Record, in_place, stage
from shardmark.plan.origins import rows_pin
from shardmark.plan.spool import Spool
from shardmark.printable import one_line
from shardmark.records.base import to_json
from shardmark.records.dataset import DatasetRecord, TaskHeader
from shardmark.records.origin import LmEvalOrigin, LmEvalTasks
from shardmark.store.hashes import HashCache
from shardmark.tasks import Sample, hub_rows, read_rows
from shardmark.tasks.extent import TASK, Extent, per_task
from shardmark.tasks.lm_eval.code import Code, code_identity
from shardmark.tasks.lm_eval.data import DataMap, Part, as_dataset, parts, read_data_map
from shardmark.tasks.lm_eval.documents import Splits
from shardmark.tasks.lm_eval.files import Function, functions, restored
from shardmark.tasks.lm_eval.index import package_version, read_index, tasks_folder
from shardmark.tasks.lm_eval.samples import samples
from shardmark.tasks.lm_eval.select import LmEvalDataset, select
from shardmark.tasks.lm_eval.settings import TaskSettings
from shardmark.tasks.rows import check_kept, kept_rows


def with_suggestions(problems: list[Problem], run: RunConfig) -> list[Problem]:
    """The problems, with the right name in those about a data set that only lm-eval has."""
    names: set[str] = set()
    with suppress(UserError, OSError):
        if run.lm_eval_path and any(UNKNOWN.match(problem.what) for problem in problems):
            folder = tasks_folder(Path(run.lm_eval_path), "")
            names = read_index(folder, layout.LM_EVAL_INDEXES.folder(run.results)).names
    return [_suggested(problem, names, bool(run.lm_eval_path)) for problem in problems]


UNKNOWN = re.compile(r"no file config/datasets/(.+)\.yaml$")


def _suggested(problem: Problem, names: set[str], known: bool) -> Problem:
    found = UNKNOWN.match(problem.what)
    if found is None or found[1].startswith("_") or (known and found[1] not in names):
        return problem
    what = f"lm_eval:{found[1]}, a task of lm-evaluation-harness"
    fix = f"write {what}" if known else f"or {what}, with lm_eval_path"
    return replace(problem, fix=fix if known else f"{problem.fix}; {fix}")


def expand(benchmark: Benchmark, where: str, problems: list[Problem]) -> list[LmEvalDataset]:
    """The data sets for the run's names of lm-eval tasks, each once."""
    run, found = benchmark.run, dict[str, LmEvalDataset]()
    if not benchmark.lm_eval:
        return []
    with collecting(problems):
        index = None
        if run.lm_eval_path:
            folder = tasks_folder(Path(run.lm_eval_path), where)
            index = read_index(folder, layout.LM_EVAL_INDEXES.folder(run.results))
        for each in (d for named in benchmark.lm_eval for d in select(named, index, run, problems)):
            before = found[each.name].asked_as if each.name in found else ()
            found[each.name] = replace(each, asked_as=(*before, *each.asked_as))
    return [*found.values()]


def _need_code(dataset: LmEvalDataset, run: RunConfig) -> None:
    """Raise UserError for a data set that needs code which is not allowed."""
    functions = {*dataset.asking, *dataset.judging}
    if functions and not run.lm_eval_code:
        named = ", ".join(sorted({function.name for function in functions})[:3])
        what = f"{dataset.name} needs its own Python code ({named}), which is executed only if you allow it"
        fix = "lm_eval_code: true (it runs with your permissions), or leave the task out"
        raise UserError(Problem(dataset.file, "lm_eval_code", what, fix))


def code_warning(datasets: Iterable[LmEvalDataset], where: str) -> list[Problem]:
    """The summary's warning about code that is executed."""
    names = [dataset.name for dataset in datasets if dataset.asking or dataset.judging]
    if not names:
        return []
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [Problem(where, "lm_eval_code", f"Python code of lm-eval's tasks is executed for {shown}")]


@dataclass(frozen=True)
class _Sources:
    """The splits of a data set's tasks, and the commits of those on the Hub."""

    parts: dict[str, list[Part]]
    commits: dict[str, str]
    where: str
    lock: Lock

    def files(self) -> list[Path]:
        return sorted({file for found in self.parts.values() for part in found for file in part.files})

    def check_kept(self, hashes: HashCache) -> None:
        """Raise UserError if stored rows differ from those in the lock."""
        for part in (part for found in self.parts.values() for part in found if not part.files):
            source, commit = _source_of(part), self.commits[str(part.hub)]
            check_kept(source, commit, self.where, rows_pin(source, commit, self.lock), hashes.sha256)

    def splits(self, task: TaskSettings, rows: Counted) -> Splits:
        """The rows of a task's splits. Those that are scored are counted."""
        found = {}
        for part in self.parts[task.task]:
            try:
                found[part.split] = self.read(part)
            except (ValueError, TypeError, OverflowError) as error:  # pyarrow's errors are among them
                what = f"{part.file or part.hub}: its rows do not fit into columns: {error}"
                raise UserError(Problem(self.where, task.task, what, "give each column values of one type")) from error
        rows.number += len(found[str(task.eval_split)])
        return found

    def read(self, part: Part) -> Any:
        """A split as a `datasets.Dataset`. Raises UserError, or for rows of mixed types ValueError and similar."""
        return self.own_files(part) if part.own else as_dataset(self.rows(part), part.local)

    def own_files(self, part: Part) -> Any:
        """A split in files that the task names. Raises UserError."""
        assert part.own
        try:
            return part.own.read(part.split)
        except Exception as error:  # `datasets` raises wrappers around the real error
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            what = f"`datasets` cannot read {', '.join(map(str, part.files))}: {one_line(cause)}"
            fix = "correct the files, or dataset_kwargs"
            raise UserError(Problem(self.where, "dataset_kwargs", what, fix)) from error

    def rows(self, part: Part) -> Iterable[dict[str, Any]]:
        """The rows of a split. Raises UserError."""
        if part.own:
            return self.own_files(part)
        if part.file:
            return _file_rows(part.file, part.file.stat().st_mtime_ns)
        source, commit = _source_of(part), self.commits[str(part.hub)]
        return hub_rows(source, commit, self.where, rows_pin(source, commit, self.lock))


def _source_of(part: Part) -> Source:
    return Source(hub=part.hub, config=part.config, split=part.split)


@lru_cache(maxsize=4)
def _file_rows(file: Path, changed: int) -> list[dict[str, Any]]:
    """The rows of a file, cached because MMLU's 57 subjects share it."""
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
        code.check(dataset.judging)  # find missing imports now, not when all answers are there
        with hashes.steady(sources.files()):
            extent = Extent(run.limit, TASK if dataset.group else None, dataset.chosen)
            found = samples(dataset, lambda task: sources.splits(task, rows), code, per_task(run.limit), extent)
            return stage(about, found, rows, results, extent)

    made_from = {
        "tasks": [all_settings(task) for task in dataset.tasks],
        "origin": to_json(about.origin),
        "limit": _part(dataset, run),
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


def rows_files(dataset: LmEvalDataset, run: RunConfig, lock: Lock) -> list[Path]:
    """The files with the rows of its tasks on this machine, once they have been read. Raises UserError."""
    sources = _sources(dataset, run, lock)
    on_hub = [part for found in sources.parts.values() for part in found if not part.files]
    return sources.files() + [kept_rows(_source_of(part), sources.commits[str(part.hub)]) for part in on_hub]


def fetch_lm_eval(dataset: LmEvalDataset, run: RunConfig, lock: Lock, hashes: HashCache) -> int:
    """Put a data set into the lock and its rows into the Hub's cache; returns their number. Raises UserError."""
    sources, _ = _resolved(dataset, run, lock, hashes)
    return sum(1 for found in sources.parts.values() for part in found for _ in sources.rows(part))


def _resolved(dataset: LmEvalDataset, run: RunConfig, lock: Lock, hashes: HashCache) -> tuple[_Sources, Described]:
    """The places of its rows, and the facts for the task file, which also go into the lock."""
    sources = _sources(dataset, run, lock)
    sources.check_kept(hashes)
    origin = _origin(dataset, sources, run, hashes)
    made = {str(part.file): part.label for found in sources.parts.values() for part in found if part.label}
    kind = "data_root" if origin.files.keys() - made else "hub" if origin.hub else "made"
    lock.note(("datasets", dataset.name, kind), _locked(dataset, origin, run, made))
    return sources, facts(dataset, origin, run)


def _part(dataset: LmEvalDataset, run: RunConfig) -> Any:
    """The part of its documents that is asked: a run's limit, or what its file chooses."""
    return {"samples": dataset.chosen} if dataset.chosen else run.model_dump()["limit"]


def all_settings(task: TaskSettings) -> dict[str, str]:
    """A task's settings as texts, for digests."""
    return {key: str(value) for key, value in task.model_dump().items()}


def _sources(dataset: LmEvalDataset, run: RunConfig, lock: Lock) -> _Sources:
    data: DataMap | None = None
    if run.data_root:
        data = read_data_map(found_in(run.lm_eval_data, Path()), Path(run.data_root))
    problems: list[Problem] = []
    found: dict[str, list[Part]] = {}
    commits: dict[str, str] = {}
    code = Code(dataset.root, run.lm_eval_code, dataset.file)
    for task in dataset.tasks:
        with collecting(problems):
            found[task.task] = parts(task, data, dataset.file, code)
            for part in found[task.task]:
                if not part.files and part.hub not in commits:
                    commits[str(part.hub)] = lock.commit("dataset", str(part.hub), None, dataset.file)
    if problems:
        raise UserError(problems)
    return _Sources(found, commits, dataset.file, lock)


def _origin(dataset: LmEvalDataset, sources: _Sources, run: RunConfig, hashes: HashCache) -> LmEvalOrigin:
    return LmEvalOrigin(
        lm_eval=LmEvalTasks(tasks=str(dataset.root), version=package_version(dataset.root), code=run.lm_eval_code),
        files={str(file): hashes.sha256(file) for file in sources.files()},
        hub=dict(sorted(sources.commits.items())),
    )


def facts(dataset: LmEvalDataset, origin: LmEvalOrigin, run: RunConfig) -> Described:
    """The facts for the task file, with the places of tasks and code, which are no part of what names the scores."""
    judged = dataset.described()
    settings = judged | {"executes": code_identity([*dataset.asking, *dataset.judging], dataset.root)}
    protocols = scoring_protocols((), ()) | {"lm_eval": LM_EVAL}
    made_of = {
        "template": [all_settings(task) for task in dataset.tasks],
        "few_shot": dataset.style.described(),
        "rows": _part(dataset, run),
        "code": _portable(settings["executes"], dataset.root),
        "metrics": judged,
        "revision": {"files": sorted(origin.files.values()), "hub": origin.hub},
        "protocol": protocols,
    }
    return Described(
        name=dataset.name,
        file=dataset.file,
        kind=dataset.kind,
        settings=settings,
        judged=_identity(judged["lm_eval"], dataset.judging, dataset.root),
        protocols=protocols,
        origin=origin,
        components=of_parts(made_of),
    )


def recorded_facts(header: TaskHeader, file: str) -> Described:
    """The facts for a new task file of a data set whose task is known only from an earlier one."""
    told, settings = header.dataset, header.settings
    root = Path(told.origin.lm_eval.tasks) if isinstance(told.origin, LmEvalOrigin) else Path()
    protocols = scoring_protocols((), ()) | {"lm_eval": LM_EVAL}
    return Described(
        name=told.name,
        file=file,
        kind=settings["kind"],
        settings=settings,
        judged=_identity(settings["lm_eval"], functions(restored(settings["lm_eval"], root)), root),
        protocols=protocols,
        origin=told.origin,
        components=told.components | of_parts({"protocol": protocols}),
    )


def _identity(rules: Any, judging: Iterable[Function], root: Path) -> Record:
    """What the digest of a data set's scores covers besides its samples: the rules, and the code that applies them."""
    return {"lm_eval": rules, "code": _portable(code_identity(judging, root), root)}


def _portable(code: dict[str, Any], root: Path) -> Any:
    """The hashes of code without its place on this machine."""
    return {key: sorted(value.values()) if isinstance(value, dict) else value for key, value in code.items()}


def _locked(dataset: LmEvalDataset, origin: LmEvalOrigin, run: RunConfig, made: dict[str, str]) -> Record:
    """The entry for the lock: the task, and files below data_root with their hashes, or commits on the Hub.

    Rows that a task has made are called TASK:SPLIT.
    """
    name = dataset.group.name if dataset.group else dataset.tasks[0].task
    record: Record = {"task": name, "lm_eval": origin.lm_eval.version}
    if not origin.files:
        return record | {"commits": origin.hub}
    root = Path(run.data_root).expanduser() if run.data_root else None
    if origin.hub:
        record |= {"commits": origin.hub}

    def place(file: str) -> str:
        if file in made:
            return made[file]
        return Path(file).relative_to(root).as_posix() if root and Path(file).is_relative_to(root) else file

    return record | {"files": {place(file): sha for file, sha in origin.files.items()}}
