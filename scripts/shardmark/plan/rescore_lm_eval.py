"""Plans without the files of lm-eval's tasks, or without their rows: scored again from records, as in rescore.py.

A name such as arc_* means nothing without lm-eval's files, and neither does a task without its YAML. So each plan notes
what a name stood for in its configuration (results/plans/lm_eval_names), and that is what it stands for later.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from shardmark import layout
from shardmark.config import Benchmark, LmEvalConfig, Named, RunConfig
from shardmark.config.asking import generation_kwargs
from shardmark.errors import Problem, UserError
from shardmark.files import digest, file_sha256, json_line, sealed, write_if_changed
from shardmark.lock.lock import Lock
from shardmark.plan.datasets import PlannedDataset
from shardmark.plan.lm_eval import all_settings, expand, facts, recorded_facts
from shardmark.plan.rescore import as_recorded, memo, with_other_scores, without_record
from shardmark.records.base import find_sealed, to_json
from shardmark.records.dataset import DatasetRecord, Meanings, Meant, TaskHeader
from shardmark.records.origin import LmEvalOrigin, LmEvalTasks
from shardmark.store.tasks import read_header, read_task
from shardmark.tasks.lm_eval.code import Code, code_identity
from shardmark.tasks.lm_eval.files import functions, restored
from shardmark.tasks.lm_eval.index import package_version
from shardmark.tasks.lm_eval.select import LmEvalDataset, lm_eval_generation
from shardmark.tasks.lm_eval.style import style_of

JUDGING = {"metric_list", "filter_list", "process_results", "unsafe_code"}
"The keys of a task that only scores depend on."
NOT_ASKED = {"description", "chance", "apply_chat_template", "fewshot_as_multiturn", "system_instruction", "metadata"}
"Keys of a data set's file that change no request, or that the run may override."
KINDS = ("data_root", "hub", "made")
"The kinds of sources of lm-eval's tasks in the lock."
WITHOUT_TASKS = "scored as recorded, since the files of lm-eval's tasks cannot be read any more"
NO_CODE = "its answers are there, but scoring needs code of its task: {why}"


@dataclass(frozen=True)
class Gone:
    """A data set of lm-eval's whose task cannot be read any more, and is known from records."""

    name: str
    named: Named[LmEvalConfig]
    error: UserError
    "The reason why it cannot be read."


def note_meanings(tasks: list[LmEvalDataset], planned: list[DatasetRecord], run: RunConfig) -> None:
    """Note what the names of lm-eval's tasks stood for in this plan, be they asked in chats, in texts, or both."""
    found: dict[Path, list[Meant]] = {}
    latest: dict[Path, list[str]] = {}
    for task in tasks:
        for named, chat in product(task.asked_as, (False, True)):
            file = _file(named, run, chat)
            latest.setdefault(file, []).append(task.name)
            found.setdefault(file, []).extend(
                Meant(dataset=task.name, digest=record.digest, asked=_asked(task.asked(chat)))
                for record in planned
                if (record.name, record.is_chat) == (task.name, chat)
            )
    for file, now in found.items():
        before = find_sealed(file, Meanings)
        known = [*now, *(one for one in (before.meant if before else ()) if one not in now)]
        if known:
            write_if_changed(file, json_line(sealed(to_json(Meanings(meant=known, latest=latest[file])))))


def _file(named: Named[LmEvalConfig], run: RunConfig, chat: bool) -> Path:
    """The file that notes what a name stands for, in a path that covers everything in the configuration."""
    config = named.settings
    said = {
        "name": named.name,
        "file": config.model_dump(exclude=NOT_ASKED),
        "style": style_of(config, run)._replace(apply_chat_template=chat).described(),
        "num_fewshot": run.num_fewshot,
        "generation": lm_eval_generation(generation_kwargs(run)),
        "metadata": {**config.metadata, **run.lm_eval_metadata},
        "limit": run.model_dump()["limit"],
    }
    return layout.LM_EVAL_NAMES.file(run.results, config=digest(said))


def _asked(dataset: LmEvalDataset) -> str:
    """The digest of everything in a data set's tasks that decides what is asked."""
    asked = [
        {key: value for key, value in all_settings(task).items() if key not in JUDGING}
        | {"unconditional": any(metric.get("metric") == "acc_mutual_info" for metric in task.metric_list or ())}
        for task in dataset.tasks
    ]
    code = code_identity(dataset.asking, dataset.root)
    hashes = sorted(code.get("files", {}).values())
    return digest([asked, dataset.style.described(), dataset.chosen, hashes, code.get("lm_eval")])


def _meanings(named: Named[LmEvalConfig], run: RunConfig, chat: bool) -> Meanings:
    return find_sealed(_file(named, run, chat), Meanings) or Meanings(meant=[])


def tasks_there(benchmark: Benchmark, where: str, problems: list[Problem]) -> tuple[list[LmEvalDataset], list[Gone]]:
    """The data sets for the run's names of lm-eval tasks, and those that only records know of, if it infers nothing."""
    if not benchmark.run.rescore:
        return expand(benchmark, where, problems), []
    there: dict[str, LmEvalDataset] = {}
    gone: dict[str, Gone] = {}
    for named in benchmark.lm_eval:
        found: list[Problem] = []
        datasets = expand(replace(benchmark, lm_eval=[named]), where, found)
        if not found:
            there |= {dataset.name: dataset for dataset in datasets}
            continue
        known = [_meanings(named, benchmark.run, chat) for chat in (False, True)]
        names = [name for each in known for name in each.latest or (meant.dataset for meant in each.meant)]
        gone |= {name: Gone(name, named, UserError(found)) for name in names}
        if not names:
            place = layout.TASKS.file(benchmark.run.results, dataset="*", task="*")
            problems += without_record(UserError(found), place).problems
    return [*there.values()], [each for name, each in gone.items() if name not in there]


def recorded_task(gone: Gone, run: RunConfig, lock: Lock, chat: bool) -> PlannedDataset:
    """A data set as its records have it. Raises UserError if there are none, or if the lock says something else."""
    results = Path(run.results)
    known = _meanings(gone.named, run, chat).meant
    for header, record in _records([one for one in known if one.dataset == gone.name], lock, results):
        about = recorded_facts(header, gone.named.file)
        if about.components["protocol"] != header.dataset.components.get("protocol"):
            lines = read_task(layout.TASKS.file(results, dataset=gone.name, task=record.digest))[1]
            return with_other_scores(about, header, lines, record, results)
        return as_recorded(msgspec.structs.replace(record, file=gone.named.file, origin=header.dataset.origin), results)
    raise without_record(gone.error, layout.TASKS.file(results, dataset=gone.name, task="*"))


def recorded_rows(
    dataset: LmEvalDataset, benchmark: Benchmark, lock: Lock, chat: bool, error: UserError
) -> PlannedDataset:
    """A data set whose rows cannot be read any more, scored by the present rules of its tasks.

    Raises `error`, the reason why they cannot be read, if no earlier plan has asked the same.
    """
    run, results = benchmark.run, Path(benchmark.run.results)
    dataset = dataset.asked(chat)
    asked = _asked(dataset)
    known = [one for named in dataset.asked_as for one in _meanings(named, run, chat).meant]
    meant = [one for one in known if (one.dataset, one.asked) == (dataset.name, asked)]
    for header, record in _records(meant, lock, results):
        tasks = LmEvalTasks(tasks=str(dataset.root), version=package_version(dataset.root), code=run.lm_eval_code)
        recorded: Any = header.dataset.origin
        origin = msgspec.structs.replace(recorded, lm_eval=tasks)
        lines = read_task(layout.TASKS.file(results, dataset=dataset.name, task=record.digest))[1]
        there = msgspec.structs.replace(header, dataset=msgspec.structs.replace(header.dataset, origin=origin))
        return with_other_scores(facts(dataset, origin, run), there, lines, record, results)
    raise without_record(error, layout.TASKS.file(results, dataset=dataset.name, task="*"))


def _records(meant: list[Meant], lock: Lock, results: Path) -> Iterator[tuple[TaskHeader, DatasetRecord]]:
    """The records of these data sets, as far as they are there and agree with the lock."""
    for one in meant:
        header = read_header(layout.TASKS.file(results, dataset=one.dataset, task=one.digest))
        record = memo(header, results) if header else None
        if header and record and _is_locked(one.dataset, header.dataset.origin, lock):
            yield header, record


def _is_locked(name: str, origin: Any, lock: Lock) -> bool:
    """Whether the lock has no conflicting facts about a data set's tasks and rows, wherever these are."""
    entries = [entry for kind in KINDS if (entry := lock.get(("datasets", name, kind)))]
    facts = [origin.lm_eval.version, sorted(origin.files.values()), origin.hub]
    locked = ([one.get("lm_eval"), sorted(one.get("files", {}).values()), one.get("commits", {})] for one in entries)
    return not entries or facts in locked


def unscorable(records: list[DatasetRecord], run: RunConfig) -> dict[str, str]:
    """The reason for each data set of lm-eval's that cannot be scored here, by its full name."""
    found = {}
    for record in {record.full_name: record for record in records}.values():
        if isinstance(record.origin, LmEvalOrigin):
            header = read_header(layout.TASKS.file(run.results, dataset=record.name, task=record.digest))
            if header and (why := _lacks(header, record.origin, run.lm_eval_code)):
                found[record.full_name] = NO_CODE.format(why=why)
    return found


def _lacks(header: TaskHeader, origin: LmEvalOrigin, allowed: bool) -> str:
    """The code that scoring a task file lacks here; empty if it is all there, and the same."""
    root = Path(origin.lm_eval.tasks)
    needed = [*functions(restored(header.settings.get("lm_eval"), root))]
    if not needed:
        return ""
    for file, sha256 in header.settings["executes"].get("files", {}).items():
        if not Path(file).is_file():
            return f"there is no {file}"
        if file_sha256(Path(file)) != sha256:
            return f"{file} has changed"
    try:
        Code(root, allowed, header.dataset.name).check(needed)
    except UserError as error:
        return error.problems[0].what
    return ""
