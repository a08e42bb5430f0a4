"""What data sets and models need of the machine that plans, and it does not have."""

import shutil

from shardmark.config import DatasetConfig, Named
from shardmark.errors import Problem, collecting
from shardmark.plan.machine import visible_gpus
from shardmark.plan.model_folders import missing_distributions
from shardmark.tasks.lm_eval.select import LmEvalDataset


def scoring_problems(datasets: list[Named[DatasetConfig]], tasks: list[LmEvalDataset]) -> list[Problem]:
    """What scoring needs, reported before anything is generated."""
    return [
        *(problem for dataset in datasets for problem in _sandbox_problems(dataset)),
        *(problem for dataset in datasets for problem in _package_problems(dataset)),
        *(problem for task in tasks for problem in _sandbox_problems(task)),
    ]


def _sandbox_problems(dataset: Named[DatasetConfig] | LmEvalDataset) -> list[Problem]:
    """The problem of a data set that runs generated code without a sandbox."""
    running = _what_runs_programs(dataset)
    if not running or shutil.which("bwrap"):
        return []
    key, what = "unsafe_code" if isinstance(dataset, LmEvalDataset) else "metrics", f"{running} runs generated code"
    fix = "apt-get install bubblewrap (or your system's package of that name)"
    return [Problem(dataset.file, key, f"{what} in a sandbox, but bwrap is not installed on this machine", fix)]


def runs_programs(datasets: list[Named[DatasetConfig]], tasks: list[LmEvalDataset]) -> bool:
    """Whether models' answers are run, so that scoring needs the sandbox."""
    return any(map(_what_runs_programs, datasets)) or any(map(_what_runs_programs, tasks))


def _what_runs_programs(dataset: Named[DatasetConfig] | LmEvalDataset) -> str:
    """The names of what runs generated code to score a data set; empty if nothing does."""
    if isinstance(dataset, LmEvalDataset):
        return dataset.name if any(task.unsafe_code for task in dataset.tasks) else ""
    return " and ".join(metric.name for metric in dataset.settings.metrics if metric.needs.sandbox)


def _package_problems(dataset: Named[DatasetConfig]) -> list[Problem]:
    """The packages that a data set's metrics need but that are not installed, and interpreters that are not there."""
    found: list[Problem] = []
    for metric in dataset.settings.metrics:
        with collecting(found):
            metric.check_machine()
    return found + [
        Problem(dataset.file, "metrics", f"{metric.name} needs the package {package}", f"pip install {package}")
        for metric in dataset.settings.metrics
        for package in missing_distributions(metric.needs.packages)
    ]


def gpu_problems(name: str, file: str, wanted: int) -> list[Problem]:
    """The problem of a model that wants more GPUs than this machine shows."""
    there = len(visible_gpus())
    if wanted <= there:
        return []
    fix = (
        "--config num_gpus=0 runs on the CPU" if not there else f"num_gpus: at most {there}, or use a cluster's profile"
    )
    what = f"model {name} needs {wanted} GPU{'s' * (wanted > 1)}, but this machine has {there}"
    return [Problem(file, "num_gpus", what, fix)]
