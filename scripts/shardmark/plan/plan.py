"""The plan of a run: which files it needs and which of them are missing, known before the first job starts.

It is made while the Snakefile is parsed, by the main process only. Every path in it holds the digest of all that its
content depends on, so "does the file exist?" is the whole question of what must run.
"""

import shlex
import shutil
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from shardmark import layout
from shardmark.config import Benchmark, DatasetConfig, Named, load, place_of
from shardmark.config.asking import chat_wanted
from shardmark.config.lm_eval import LmEvalConfig
from shardmark.config.misplaced_keys import partly_used
from shardmark.config.yaml_lines import lines_named
from shardmark.errors import Problem, UserError, collecting
from shardmark.files import digest, pretty_json, sealed, write_if_changed
from shardmark.lock.changes import Change
from shardmark.lock.entries import note_all
from shardmark.lock.lock import LOCK, Lock
from shardmark.plan.bundles import Bundle, bundle, in_jobs, job_seconds
from shardmark.plan.chats import wording_problems
from shardmark.plan.code import source_digest
from shardmark.plan.context_lengths import window_problems
from shardmark.plan.cost import Costs
from shardmark.plan.datasets import PlannedDataset, plan_dataset
from shardmark.plan.kinds import kind_problems
from shardmark.plan.lm_eval import code_warning, expand, plan_lm_eval
from shardmark.plan.machine import visible_gpus
from shardmark.plan.models import resolve_model
from shardmark.plan.pairs import ModelPairs, Pair, score_files
from shardmark.plan.preflight import missing_distributions
from shardmark.plan.reasoning import reasoning_problems
from shardmark.plan.sizes import with_parameters
from shardmark.plan.template_lookup import has_template
from shardmark.records.base import find_sealed, to_json
from shardmark.records.dataset import DatasetRecord
from shardmark.records.model import Folder, ModelRecord, Staged
from shardmark.store.hashes import CheckedFiles, HashCache
from shardmark.tasks.lm_eval.select import LmEvalDataset

Record = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    benchmark: Benchmark
    models: list[ModelRecord]
    datasets: list[DatasetRecord]
    pairs: list[Pair]
    "Every model with every data set, by model."
    report: Path
    "The folder of the report that belongs to exactly these scores."
    files: HashCache = field(compare=False)
    "What was read for it, to see whether it is still the same."
    lock: list[Change] = field(default_factory=list, compare=False)
    "What has changed in config/benchmark.lock."
    warnings: list[Problem] = field(default_factory=list)
    "What the user should know, but need not fix."
    bundles: list[Bundle] = field(default_factory=list)
    "The jobs of a cluster that the missing shards are; none where jobs run on this machine."

    @property
    def results(self) -> Path:
        """The folder for everything a run writes."""
        return Path(self.benchmark.run.results)

    @property
    def published(self) -> Path:
        """The run's name under reports/: a link to its newest report."""
        return self.results / "reports" / self.benchmark.run.run

    def model_names(self) -> list[str]:
        """What the results of the models are filed under, in the order in which they are to run."""
        return [model.full_name for model in self.models]

    def targets(self) -> list[str]:
        """The files of a finished run that Snakemake must see: the report, and the scores that are not there.

        What is there is right, as its path says. Ten thousand scores that need nothing would only cost time.
        """
        tables = ("index.html", "leaderboard.csv", "leaderboard.md")
        scored = (file for p in self.pairs if not p.scored for file in score_files(self.results, p.model, p.dataset))
        return [*(f"{self.report}/{table}" for table in tables), *scored]

    def measure(self) -> None:
        """Take in how long the jobs of a run took, for the next plan."""
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
) -> Plan:
    """Validate everything, resolve what names stand for, render all requests, write what jobs read.

    `config` is Snakemake's merged configuration, called `where` in messages; `local` says that jobs run on this
    machine, whose GPUs must then suffice; `step` hears what begins, and of how many such steps. Raises UserError with
    all problems; keys in `command_line` are said to stand there.
    """
    with lines_named(root):
        return _make_plan(config, root, where, local, step, command_line)


def _make_plan(
    config: Record, root: Path, where: str, local: bool, step: Callable[[str, int], None], command_line: Collection[str]
) -> Plan:
    problems: list[Problem] = []
    benchmark = load(config, root, where, problems, command_line)
    results = Path(benchmark.run.results)
    lock = Lock(root / LOCK, benchmark.run.frozen)
    hashes = HashCache(layout.HASHES.file(results))
    models, datasets, pairs = [], [], []
    tasks = expand(benchmark, place_of("lm_eval_path", where, command_line), problems)
    steps = len(benchmark.models) + len(benchmark.datasets) + len(tasks)
    for model in benchmark.models:
        step(f"model {model.name}", steps)
        problems += _gpu_problems(model.name, model.file, model.settings.num_gpus) if local else []
        with collecting(problems):
            models.append(resolve_model(model, lock, hashes))
    models = with_parameters(models, results, lock)
    work = _Work(models, benchmark)
    if local:
        problems += [problem for named in benchmark.datasets for problem in _sandbox_problems(named)]
        problems += [problem for named in benchmark.datasets for problem in _package_problems(named)]
        problems += [problem for task in tasks for problem in _sandbox_problems(task)]
    work.warnings += code_warning(tasks, place_of("lm_eval_code", where, command_line))
    own = {dataset.name: dataset.settings for dataset in benchmark.datasets}
    theirs = {task.name: task.reads for task in tasks}
    work.warnings += partly_used(benchmark.run, own, theirs, lambda key: place_of(key, where, command_line))
    makers: list[tuple[str, DatasetConfig | LmEvalConfig, Callable[[bool], PlannedDataset]]] = [
        *((d.name, d.settings, partial(plan_dataset, d, benchmark, lock, hashes)) for d in benchmark.datasets),
        *((t.name, t.config, partial(plan_lm_eval, t, benchmark, lock, hashes)) for t in tasks),
    ]
    asked: dict[str, list[DatasetRecord]] = {model.full_name: [] for model in models}
    for name, settings, make in makers:
        step(f"data set {name}", steps)
        with collecting(problems):
            for chat, parts in work.asked(settings, lock).items():
                planned = make(chat)
                datasets.append(planned.record)
                remarks = [Problem(planned.record.file, name, remark) for remark in planned.record.remarks]
                work.warnings += [remark for remark in remarks if remark not in work.warnings]
                pairs += [part.pair(planned) for part in parts] if not problems else []
                for part in parts:
                    asked[part.model.full_name].append(planned.record)
    problems += reasoning_problems(models, results)
    for model_record in models:
        own_part = asked[model_record.full_name]
        refused, notes = wording_problems(model_record, own_part, results, lock)
        problems += refused
        work.warnings += notes
        problems += window_problems([model_record], own_part)
        problems += kind_problems([model_record], own_part)
    problems += note_all(lock, benchmark, models, datasets)
    hashes.save()  # also if there are problems: large weights are not hashed again after each typing mistake
    if problems:
        raise UserError(problems)
    changes = lock.save()
    work.save()
    for record in models:
        write_if_changed(layout.MODELS.file(results, model=record.full_name), pretty_json(sealed(to_json(record))))
        _drop_stale_staging(layout.STAGED.file(results, model=record.full_name), record)
    bundles: list[Bundle] = []
    order = {record.full_name: number for number, record in enumerate(models)}
    pairs.sort(key=lambda pair: order[pair.model.full_name])
    if not local:
        bundles = bundle(pairs, job_seconds(benchmark.run))
        pairs = in_jobs(pairs, bundles)
    descriptions = {named.name: named.settings.description for named in benchmark.datasets}
    descriptions |= {task.name: task.config.description for task in tasks}
    report = _plan_report(benchmark, descriptions, pairs, results)
    return Plan(benchmark, models, datasets, pairs, report, hashes, changes, work.warnings, bundles)


class _Work:
    """What all models have to do, and what is remembered of it."""

    def __init__(self, models: list[ModelRecord], benchmark: Benchmark) -> None:
        results = Path(benchmark.run.results)
        self.run = benchmark.run
        self.warnings: list[Problem] = []
        self.costs = Costs(results)
        self.checked = CheckedFiles(layout.CHECKED.file(results))
        self.parts = [
            ModelPairs(model, benchmark.run, self.costs, self.checked, self.warnings.append) for model in models
        ]

    def asked(self, dataset: DatasetConfig | LmEvalConfig, lock: Lock) -> dict[bool, list[ModelPairs]]:
        """The models that are asked a data set in chats (true), and as texts. Raises UserError."""
        found: dict[bool, list[ModelPairs]] = {}
        problems: list[Problem] = []
        for part in self.parts:
            with collecting(problems):
                wanted = chat_wanted(self.run, dataset, part.model.settings)
                chat = has_template(part.model, part.results, lock) if wanted == "auto" else wanted
                found.setdefault(chat, []).append(part)
        if problems:
            raise UserError(problems)
        return found or {chat_wanted(self.run, dataset, None) is True: []}

    def save(self) -> None:
        """Remember what was measured, checked and decided."""
        self.costs.save()
        self.checked.save()
        for part in self.parts:
            part.divisions.save()


def _sandbox_problems(dataset: Named[DatasetConfig] | LmEvalDataset) -> list[Problem]:
    """Generated code is not run without a sandbox: said before anything is generated."""
    if isinstance(dataset, LmEvalDataset):
        key, what = "unsafe_code", f"{dataset.name} runs generated code"
        runs = any(task.unsafe_code for task in dataset.tasks)
    else:
        running = [metric.name for metric in dataset.settings.metrics if metric.needs.sandbox]
        key, what = "metrics", f"{' and '.join(running)} runs generated code"
        runs = bool(running)
    if not runs or shutil.which("bwrap"):
        return []
    fix = "apt-get install bubblewrap (or your system's package of that name)"
    return [Problem(dataset.file, key, f"{what} in a sandbox, and there is no bwrap on this machine", fix)]


def _package_problems(dataset: Named[DatasetConfig]) -> list[Problem]:
    """Packages that its metrics need, and that are not here."""
    return [
        Problem(dataset.file, "metrics", f"{metric.name} needs the package {package}", f"pip install {package}")
        for metric in dataset.settings.metrics
        for package in missing_distributions(metric.needs.packages)
    ]


def _gpu_problems(name: str, file: str, wanted: int) -> list[Problem]:
    there = len(visible_gpus())
    if wanted <= there:
        return []
    fix = (
        "--config num_gpus=0 runs on the CPU" if not there else f"num_gpus: {there} at most, or use a cluster's profile"
    )
    what = f"model {name} wants {wanted} GPU{'s' * (wanted > 1)}, this machine offers {there}"
    return [Problem(file, "num_gpus", what, fix)]


def _drop_stale_staging(staged: Path, record: ModelRecord) -> None:
    """Stage a model anew if what was staged is damaged or has been removed, or if its folder has moved since."""
    if staged.is_file():
        found = find_sealed(staged, Staged)
        if not found or _has_moved(found, record) or not all(Path(folder).is_dir() for folder in found.folders):
            staged.unlink()


def _has_moved(staged: Staged, record: ModelRecord) -> bool:
    places = ((staged.model, record.source), (staged.adapter, record.adapter))
    return any(isinstance(place, Folder) and folder != place.path for folder, place in places)


def _plan_report(benchmark: Benchmark, descriptions: dict[str, str], pairs: list[Pair], results: Path) -> Path:
    """Write the list of what the report is made of; its digest names the report's folder."""
    files = [score_files(results, pair.model, pair.dataset) for pair in pairs]
    made_of: Record = {
        "run": benchmark.run.run,
        "scores": [scores for scores, _, _ in files],
        "samples": [samples for _, samples, _ in files],
        "descriptions": {
            "models": {model.name: model.settings.description for model in benchmark.models},
            "datasets": descriptions,
        },
    }
    if benchmark.groups:
        made_of["groups"] = [
            group.settings.model_dump(exclude={"group"}) | {"name": group.name, "members": group.members}
            for group in benchmark.groups
        ]
    name = layout.full_name(benchmark.run.run, digest([made_of, source_digest("report")]))
    facts = {
        "command": shlex.join(["snakemake", *sys.argv[1:]]),
        "config": benchmark.run.model_dump(exclude_defaults=True),
    }
    timings = [timings for _, _, timings in files]
    path = layout.REPORT_INPUTS.file(results, report=name)
    write_if_changed(path, pretty_json(sealed(made_of | {"timings": timings, "facts": facts})))
    return layout.REPORTS.folder(results, report=name)
