"""The plan of a run: the files it needs and those that are missing, known before the first job starts.

It is made by the main process only, while the Snakefile is parsed. Every path in it contains the digest of everything
that its content depends on, so a job must run if, and only if, its file does not exist.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from shardmark import layout
from shardmark.config import Benchmark, DatasetConfig, Named, RunConfig, load, place_of
from shardmark.config.load import replacements
from shardmark.config.misplaced_keys import partly_used
from shardmark.config.yaml_lines import lines_named
from shardmark.errors import Problem, UserError, collecting, nearest
from shardmark.files import pretty_json, sealed, write_if_changed
from shardmark.lock.changes import Change
from shardmark.lock.contents import with_contents
from shardmark.lock.entries import note_all
from shardmark.lock.lock import LOCK, Lock
from shardmark.plan.bundles import Bundle, bundle, in_jobs, job_seconds
from shardmark.plan.cost import Costs
from shardmark.plan.datasets import PlannedDataset, plan_dataset
from shardmark.plan.hub_files import content_problems, missing, places, unknown_contents
from shardmark.plan.kinds import ASKS
from shardmark.plan.lm_eval import code_warning, plan_lm_eval, with_suggestions
from shardmark.plan.machine_problems import gpu_problems, runs_programs, scoring_problems
from shardmark.plan.missing import files_not_here
from shardmark.plan.models import check_dequantised, resolve_model
from shardmark.plan.pair_planner import Maker, PairPlanner
from shardmark.plan.pairs import Pair, score_files
from shardmark.plan.reasoning import reasoning_problems
from shardmark.plan.report_list import plan_report
from shardmark.plan.rescore import gap, lack, recorded_dataset, recorded_model
from shardmark.plan.rescore_lm_eval import (
    WITHOUT_TASKS,
    Gone,
    note_meanings,
    recorded_rows,
    recorded_task,
    tasks_there,
    unscorable,
)
from shardmark.plan.sizes import with_parameters
from shardmark.plan.vllm import with_engines
from shardmark.records.base import find_sealed, to_json
from shardmark.records.dataset import DatasetRecord
from shardmark.records.gap import Gap
from shardmark.records.model import Folder, ModelRecord, Staged
from shardmark.store.hashes import HashCache
from shardmark.tasks.lm_eval.select import LmEvalDataset

Record = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do."""

    benchmark: Benchmark
    models: list[ModelRecord]
    datasets: list[DatasetRecord]
    pairs: list[Pair]
    "Every model with every data set, sorted by model."
    report: Path
    "The folder of the report for exactly these scores."
    files: HashCache = field(compare=False)
    "The files read for the plan, to check later whether they are still the same."
    lock: list[Change] = field(default_factory=list, compare=False)
    "Changes in config/benchmark.lock: those made, or with a dry plan those that a run would make."
    warnings: list[Problem] = field(default_factory=list)
    "Warnings for the user that need no fix."
    bundles: list[Bundle] = field(default_factory=list)
    "The cluster jobs for the missing shards; none if jobs run on this machine."
    shared: list[str] = field(default_factory=list)
    "Lines about the answers taken from the run's store."
    gaps: list[Gap] = field(default_factory=list)
    "Pairs that have no scores and get none, because nothing is inferred."
    runs_programs: bool = False
    "Whether models' answers are run, so that scoring needs the sandbox."

    @property
    def results(self) -> Path:
        """The folder for everything a run writes."""
        return Path(self.benchmark.run.results)

    @property
    def published(self) -> Path:
        """The run's name under reports/: a link to its newest report."""
        return self.results / "reports" / self.benchmark.run.run

    def model_names(self) -> list[str]:
        """The names under which the results of the models are filed, in the order in which they run."""
        return [model.full_name for model in self.models]

    def endpoint_names(self) -> list[str]:
        """The names of the models whose jobs only wait for other machines."""
        return [model.full_name for model in self.models if model.settings.elsewhere]

    def waiting_models(self) -> list[ModelRecord]:
        """The models that jobs will load: those with requests that have no answer yet."""
        names = {pair.model.full_name for pair in self.pairs if pair.requests}
        return [model for model in self.models if model.full_name in names]

    def later(self) -> set[tuple[str, str]]:
        """Model and data set of the pairs that only the second engine of a model answers."""
        return {
            (pair.model.full_name, pair.dataset.name)
            for pair in self.pairs
            if pair.model.engines and ASKS[pair.dataset.kind].isdisjoint(pair.model.engines[0].kinds)
        }

    def targets(self) -> list[str]:
        """The files of a finished run for Snakemake to check: the report, and scores that do not exist yet.

        Existing files are right, because their paths say so. Ten thousand finished scores would only cost time.
        """
        tables = ("index.html", "leaderboard.html", "leaderboard.csv", "leaderboard.md")
        scored = (file for p in self.pairs if not p.scored for file in score_files(self.results, p.model, p.dataset))
        return [*(f"{self.report}/{table}" for table in tables), *scored]

    def measure(self) -> None:
        """Take in the times of a run's jobs for the next plan."""
        costs = Costs(self.results)
        for pair in self.pairs:
            costs.measure(pair.model, pair.dataset.name, pair.dataset.kind)
        costs.save()


def make_plan(
    config: Record,
    root: Path,
    where: str,
    local: bool,
    step: Callable[[str, int], None] = lambda what, of: None,
    command_line: Collection[str] = (),
    dry: bool = False,
    begun: Callable[[Benchmark], None] = lambda benchmark: None,
) -> Plan:
    """Validate everything, resolve names, render all requests, and write the files that jobs read.

    `config` is Snakemake's merged configuration, called `where` in messages. `local` says that jobs run on this
    machine, whose GPUs must then suffice. `step` is called with each step that begins and the number of steps. A `dry`
    plan leaves the lock as it is. `begun` is called with the settings once they are known to be valid. Raises UserError
    with all problems; for keys in `command_line`, messages name the command line as their place.
    """
    with lines_named(root):
        return _make_plan(config, root, where, local, step, command_line, dry, begun)


def _make_plan(
    config: Record,
    root: Path,
    where: str,
    local: bool,
    step: Callable[[str, int], None],
    command_line: Collection[str],
    dry: bool,
    begun: Callable[[Benchmark], None],
) -> Plan:
    problems: list[Problem] = []
    benchmark = load(config, root, where, problems, command_line)
    if not problems:
        begun(benchmark)
    place = partial(place_of, where=where, command_line=command_line)
    results = Path(benchmark.run.results)
    rescore = benchmark.run.rescore
    lock = Lock(root / LOCK, benchmark.run.frozen or rescore, kept=layout.PINS.file(results))
    hashes = HashCache(layout.HASHES.file(results))
    tasks, gone = tasks_there(benchmark, place("lm_eval_path"), problems)
    steps = len(benchmark.models) + len(benchmark.datasets) + len(tasks) + len(gone)

    def begin(what: str) -> None:
        step(what, steps)

    models = _resolve_models(benchmark, lock, hashes, local, begin, problems)
    if not rescore:
        models = _with_facts(models, benchmark, lock, root, place, problems)
    problems += scoring_problems(benchmark.datasets, tasks) if local else []
    work = PairPlanner(models, benchmark)
    work.warnings += _notes(benchmark, models, tasks, gone, root, place)
    makers = _makers(benchmark, tasks, gone, lock, hashes)
    if "mean_weights" in command_line or "datasets" not in command_line:
        problems += _weight_problems(benchmark, [name for name, _, _ in makers], place("mean_weights"))
    for maker in makers:
        begin(f"data set {maker[0]}")
        with collecting(problems):
            work.plan_dataset(maker, lock, problems)
    datasets, pairs = work.datasets, work.pairs
    if not rescore:
        problems += reasoning_problems(models, results)
        for model in models:
            problems += work.model_problems(model, root, lock, already=bool(problems))
        problems += note_all(lock, benchmark, models, datasets)
    hashes.save()  # even with problems, so that a typing mistake does not cost another hash of large weights
    if problems:
        problems = with_suggestions(problems, benchmark.run)
        raise UserError([*problems, *([] if dry else files_not_here(models))])
    changes = lock.keep() if dry else lock.save()
    work.save()
    gaps: list[Gap] = []
    if rescore:
        pairs, gaps = _scorable(pairs, benchmark.run, place("rescore"))
    else:
        note_meanings(tasks, datasets, benchmark.run)
    _write_models(models, results, rescore)
    order = {record.full_name: number for number, record in enumerate(models)}
    pairs.sort(key=lambda pair: order[pair.model.full_name])
    bundles = [] if local else bundle(pairs, job_seconds(benchmark.run))
    pairs = pairs if local else in_jobs(pairs, bundles)
    descriptions = {name: settings.description for name, settings, _ in makers}
    report = plan_report(benchmark, descriptions, pairs, results, gaps, gone, local)
    shared = work.shared.notes() if work.shared else []
    programs = runs_programs(benchmark.datasets, tasks)
    return Plan(
        benchmark, models, datasets, pairs, report, hashes, changes, work.warnings, bundles, shared, gaps, programs
    )


def _resolve_models(
    benchmark: Benchmark,
    lock: Lock,
    hashes: HashCache,
    local: bool,
    begin: Callable[[str], None],
    problems: list[Problem],
) -> list[ModelRecord]:
    """The records of a run's models; what is wrong with the others is added to `problems`."""
    models = []
    for model in benchmark.models:
        begin(f"model {model.name}")
        with collecting(problems):
            if benchmark.run.rescore:
                models.append(recorded_model(model, lock, hashes, Path(benchmark.run.results)))
                continue
            problems += gpu_problems(model.name, model.file, model.settings.num_gpus) if local else []
            models.append(resolve_model(model, lock, hashes))
            check_dequantised(models[-1], Path(benchmark.run.results), hashes)
    return models


def _with_facts(
    models: list[ModelRecord],
    benchmark: Benchmark,
    lock: Lock,
    root: Path,
    place: Callable[[str], str],
    problems: list[Problem],
) -> list[ModelRecord]:
    """The models with the contents, sizes and engines that inference needs to know."""
    results = Path(benchmark.run.results)
    models = with_contents(with_parameters(models, results, lock), results, lock)
    problems += content_problems(models, results, everything=lock.frozen)
    return with_engines(models, benchmark.run.vllm_python, root, place("vllm_python"), problems)


def _makers(
    benchmark: Benchmark, tasks: list[LmEvalDataset], gone: list[Gone], lock: Lock, hashes: HashCache
) -> list[Maker]:
    """What plans each data set of a run."""
    return [
        *((d.name, d.settings, partial(_dataset, d, benchmark, lock, hashes)) for d in benchmark.datasets),
        *((t.name, t.config, partial(_task, t, benchmark, lock, hashes)) for t in tasks),
        *((g.name, g.named.settings, partial(recorded_task, g, benchmark.run, lock)) for g in gone),
    ]


def _notes(
    benchmark: Benchmark,
    models: list[ModelRecord],
    tasks: list[LmEvalDataset],
    gone: list[Gone],
    root: Path,
    place: Callable[[str], str],
) -> list[Problem]:
    """What a user should know of a run's settings before any data set is read."""
    own = {dataset.name: dataset.settings for dataset in benchmark.datasets}
    theirs = {task.name: task.reads for task in tasks}
    return [
        *replacements(benchmark, root),
        *([] if benchmark.run.rescore else unknown_contents(models)),
        *(Problem(one.named.file, one.name, f"{WITHOUT_TASKS}: {one.error.problems[0].what}") for one in gone),
        *code_warning(tasks, place("lm_eval_code")),
        *partly_used(benchmark.run, own, theirs, place),
    ]


def _write_models(models: list[ModelRecord], results: Path, rescore: bool) -> None:
    """Write the records that jobs read; when a run only scores, those that are there stay."""
    for record in models:
        file = layout.MODELS.file(results, model=record.full_name)
        if not (rescore and file.is_file()):
            write_if_changed(file, pretty_json(sealed(to_json(record))))
        if not rescore:
            _drop_stale_staging(layout.STAGED.file(results, model=record.full_name), record)


def _weight_problems(benchmark: Benchmark, datasets: list[str], where: str) -> list[Problem]:
    """Weights of the mean that are of no data set or group in it."""
    groups = {member: group.name for group in benchmark.groups for member in group.members}
    known = [*(group.name for group in benchmark.groups), *(name for name in datasets if name not in groups)]
    found = []
    for name in benchmark.run.mean_weights:
        if name in groups:
            fix = f"give one to the group, and weigh its data sets in the group's file ({groups[name]})"
            found.append(Problem(where, "mean_weights", f"{name} counts only as a part of its group", fix))
        elif name not in known:
            found.append(Problem(where, "mean_weights", f"the run has no data set {name}", nearest(name, known)))
    return found


def _dataset(
    dataset: Named[DatasetConfig], benchmark: Benchmark, lock: Lock, hashes: HashCache, chat: bool
) -> PlannedDataset:
    try:
        return plan_dataset(dataset, benchmark, lock, hashes, chat)
    except UserError as error:
        if not benchmark.run.rescore:
            raise
        return recorded_dataset(dataset, benchmark, lock, hashes, chat, error)


def _task(dataset: LmEvalDataset, benchmark: Benchmark, lock: Lock, hashes: HashCache, chat: bool) -> PlannedDataset:
    try:
        return plan_lm_eval(dataset, benchmark, lock, hashes, chat)
    except UserError as error:
        if not benchmark.run.rescore:
            raise
        return recorded_rows(dataset, benchmark, lock, chat, error)


def _scorable(pairs: list[Pair], run: RunConfig, where: str) -> tuple[list[Pair], list[Gap]]:
    """The pairs that are reported without inference, and the gaps of the others. Raises UserError if there are none."""
    without = unscorable([pair.dataset for pair in pairs if not (pair.scored or pair.missing)], run)
    why = [lack(pair, without) for pair in pairs]
    if all(why):
        what = "no model has answered all of any data set in this results folder, and rescore infers nothing"
        fix = "run without rescore first, or name another folder: results=DIR"
        raise UserError(Problem(where, "rescore", what, fix))
    return (
        [pair for pair, reason in zip(pairs, why, strict=True) if not reason],
        [gap(pair, reason) for pair, reason in zip(pairs, why, strict=True) if reason],
    )


def _drop_stale_staging(staged: Path, record: ModelRecord) -> None:
    """Remove a staging record if the staged files are damaged or gone, or if their folder has moved, to stage again."""
    if staged.is_file():
        found = find_sealed(staged, Staged)
        there = found and all(Path(folder).is_dir() for folder in found.folders)
        if not found or not there or _has_moved(found, record) or any(map(missing, places([record]))):
            staged.unlink()


def _has_moved(staged: Staged, record: ModelRecord) -> bool:
    places = ((staged.model, record.source), (staged.adapter, record.adapter))
    return any(isinstance(place, Folder) and folder != place.path for folder, place in places)
