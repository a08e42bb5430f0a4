"""The plan of a run: which files it needs and which of them are missing, known before the first job starts.

It is made while the Snakefile is parsed, by the main process only. Every path in it holds the digest of all that its
content depends on, so "does the file exist?" is the whole question of what must run.
"""

import shlex
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardmark.config import Benchmark, load
from shardmark.errors import Problem, UserError, collecting
from shardmark.files import digest, pretty_json, read_json, write_if_changed
from shardmark.plan.cost import Measured, load_seconds, predictions_folder, prior_seconds
from shardmark.plan.datasets import code_digest, plan_dataset
from shardmark.plan.hashes import HashCache
from shardmark.plan.lock import Lock
from shardmark.plan.machine import visible_gpus
from shardmark.plan.models import resolve_model
from shardmark.plan.predictions import read_trailer

Record = dict[str, Any]
LOCK = Path("config/benchmark.lock")


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    benchmark: Benchmark
    models: list[Record]
    datasets: list[Record]
    report: Path
    "The folder of the report that belongs to exactly these scores."

    @property
    def results(self) -> Path:
        """The folder for everything a run writes."""
        return Path(self.benchmark.run.results)

    @property
    def published(self) -> Path:
        """The run's name under reports/: a link to its newest report."""
        return self.results / "reports" / self.benchmark.run.run

    def pairs(self) -> list[tuple[Record, Record]]:
        """Every model with every data set."""
        return [(model, dataset) for model in self.models for dataset in self.datasets]

    def targets(self) -> list[str]:
        """Everything a finished run has: the report with its tables, and all scores and samples."""
        tables = ("index.html", "leaderboard.csv", "leaderboard.md")
        scored = (file for pair in self.pairs() for file in score_files(self.results, *pair))
        return [*(f"{self.report}/{table}" for table in tables), *scored]


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
    problems: list[Problem] = []
    benchmark = load(config, root, where, problems, command_line)
    results = Path(benchmark.run.results)
    lock = Lock(root / LOCK)
    hashes = HashCache(results / "plans" / "hashes.json")
    models, datasets = [], []
    steps = len(benchmark.models) + len(benchmark.datasets)
    for model in benchmark.models:
        step(f"model {model.name}", steps)
        problems += _gpu_problems(model.name, model.file, model.settings.num_gpus) if local else []
        with collecting(problems):
            models.append(resolve_model(model, lock, hashes))
    for dataset in benchmark.datasets:
        step(f"data set {dataset.name}", steps)
        with collecting(problems):
            datasets.append(plan_dataset(dataset, benchmark, lock))
    hashes.save()  # also if there are problems: large weights are not hashed again after each typing mistake
    if problems:
        raise UserError(problems)
    lock.save()
    for record in models:
        name = f"{record['name']}@{record['digest']}"
        write_if_changed(model_file(results, name), pretty_json(record))
        _drop_stale_staging(results / "staged" / f"{name}.json", record)
    return Plan(benchmark, models, datasets, _plan_report(benchmark, models, datasets, results))


def _gpu_problems(name: str, file: str, wanted: int) -> list[Problem]:
    there = len(visible_gpus())
    if wanted <= there:
        return []
    fix = (
        "--config num_gpus=0 runs on the CPU" if not there else f"num_gpus: {there} at most, or use a cluster's profile"
    )
    what = f"model {name} wants {wanted} GPU{'s' * (wanted > 1)}, this machine offers {there}"
    return [Problem(file, "num_gpus", what, fix)]


def model_file(results: Path, model: str) -> Path:
    """The record of a model, by its name@digest."""
    return results / "models" / f"{model}.json"


def _drop_stale_staging(staged: Path, record: Record) -> None:
    """Stage a model anew if what was staged has been removed, or if its folder has moved since."""
    if staged.is_file():
        folders = read_json(staged)
        moved = record["source"]["kind"] == "local" and record["source"]["path"] != folders["model"]
        if moved or not all(Path(folder).is_dir() for folder in folders.values()):
            staged.unlink()


def score_files(results: Path, model: Record, dataset: Record) -> tuple[str, str]:
    """The scores and the samples of a model on a data set."""
    name = f"{model['name']}@{model['digest']}/{dataset['name']}@{dataset['digest']}"
    return f"{results}/scores/{name}.json", f"{results}/samples/{name}.jsonl"


def _plan_report(benchmark: Benchmark, models: list[Record], datasets: list[Record], results: Path) -> Path:
    """Write the list of what the report is made of; its digest names the report's folder."""
    files = [score_files(results, model, dataset) for model in models for dataset in datasets]
    made_of = {
        "run": benchmark.run.run,
        "scores": [scores for scores, _ in files],
        "samples": [samples for _, samples in files],
        "descriptions": {
            "models": {model.name: model.settings.description for model in benchmark.models},
            "datasets": {dataset.name: dataset.settings.description for dataset in benchmark.datasets},
        },
    }
    name = f"{benchmark.run.run}@{digest([made_of, code_digest('report')])}"
    facts = {
        "command": shlex.join(["snakemake", *sys.argv[1:]]),
        "config": benchmark.run.model_dump(exclude_defaults=True),
    }
    write_if_changed(report_inputs(results, name), pretty_json(made_of | {"facts": facts}))
    return results / "reports" / name


def report_inputs(results: Path, report: str) -> Path:
    """The list of what a report is made of, by the report's name@digest."""
    return results / "plans" / "reports" / f"{report}.json"


@dataclass(frozen=True)
class Outlook:
    """How much of a model's work on a data set is left."""

    model: str
    dataset: str
    shards: int
    to_run: int
    seconds: float
    "Expected time of inference on the devices of one job, loading included."


def outlook(plan: Plan) -> list[Outlook]:
    """What is left to infer, and how long it should take, for each model and data set.

    A pair that has been scored needs no predictions any more.
    """
    rows = []
    for model in plan.models:
        folder = predictions_folder(plan.results, model)
        trailers: dict[str, list[Record]] = {}
        todo: dict[str, list[Record]] = {}
        for dataset in plan.datasets:
            scored = all(Path(file).is_file() for file in score_files(plan.results, model, dataset))
            for shard in dataset["shards"]:
                path = folder / dataset["name"] / f"{shard['name']}.jsonl"
                if path.is_file():
                    trailers.setdefault(dataset["name"], []).append(read_trailer(path) or {})
                elif not scored:
                    todo.setdefault(dataset["name"], []).append(shard)
        measured = Measured({name: [t for t in found if t] for name, found in trailers.items()})
        for dataset in plan.datasets:
            missing = todo.get(dataset["name"], [])
            seconds = sum(
                load_seconds(model) + (measured.seconds(dataset["name"], s["requests"]) or prior_seconds(model, s))
                for s in missing
            )
            rows.append(Outlook(model["name"], dataset["name"], len(dataset["shards"]), len(missing), seconds))
    return rows
