"""What the Snakefile calls while it is parsed."""

import atexit
import json
import os
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rich.console import Console

from shardmark.errors import Problem, UserError
from shardmark.files import read_json
from shardmark.plan.machine import visible_gpus
from shardmark.plan.plan import Plan, make_plan, model_file, report_inputs
from shardmark.plan.publish import publish
from shardmark.plan.summary import print_summary, progress

DRY_RUN = {"-n", "--dry-run", "--dryrun"}


def plan_or_exit(config: dict[str, Any], where: str, local: bool, command_line: Collection[str]) -> Plan:
    """The plan, with its summary printed; on mistakes of the user their list, and exit status 1.

    `where` is what to call the configuration, `command_line` the keys that `--config` gave.
    """
    console = Console(stderr=True, soft_wrap=True)
    try:
        with progress(console) as step:
            plan = make_plan(config, Path.cwd(), where, local, step, command_line)
        print_summary(plan, console)
        if (plan.report / "index.html").is_file() and not DRY_RUN.intersection(sys.argv):
            finish(plan)
        return plan
    except UserError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        fix = "free or enlarge the disk, mend the rights, or choose another folder with --config results=..."
        what = f"{error.filename}: {error.strerror}"
        print(UserError(Problem("the plan", "results", f"cannot be made: {what}", fix)), file=sys.stderr)
    sys.stderr.flush()
    sys.exit(1)


def finish(plan: Plan) -> None:
    """The report is there: the run's name points to it, and its path is the last thing that is printed."""
    publish(plan.report, plan.published)
    atexit.register(print, f"report: {plan.published}/index.html", file=sys.stderr)


def runs_here(resource_settings: Any) -> bool:
    """Whether jobs run on this machine, as far as is known while the Snakefile is parsed.

    The executor is chosen later, but only a cluster's has no number of cores (except in a dry run, which makes one up).
    """
    cores, nodes = resource_settings.cores, resource_settings.nodes
    return nodes is None or (cores is not None and not DRY_RUN.intersection(sys.argv))


def local_limits(config: dict[str, Any]) -> dict[str, int]:
    """The resources that bound jobs on this machine, where the user sets no others."""
    limits = {"gpu": len(visible_gpus())}
    workers = config.get("max_num_workers")
    return limits | ({"worker": int(workers)} if workers else {})


class Inputs:
    """Input files and needs of a job, from the wildcards alone: a job on a cluster has no plan, only these files."""

    def __init__(self, results: str) -> None:
        self.results = Path(results)

    def model(self, wildcards: Any) -> dict[str, Any]:
        """The record of the model of a job."""
        return dict(read_json(model_file(self.results, wildcards.model)))

    def missing_predictions(self, wildcards: Any) -> list[str]:
        """The shards of a data set that are still to be inferred.

        What is there is right, as its path says, and stays out of Snakemake's sight: it would delete and make anew all
        predictions of a model whose weights are staged again. The score command reads and checks every shard itself.
        """
        with open(self.results / "tasks" / f"{wildcards.dataset}@{wildcards.task}.jsonl", encoding="utf-8") as file:
            shards = _first_line(file)["shards"]
        folder = f"{self.results}/predictions/{wildcards.model}/{wildcards.dataset}"
        paths = [f"{folder}/{shard}.jsonl" for shard in shards]
        return [path for path in paths if not os.path.isfile(path)]

    def report(self, wildcards: Any) -> list[str]:
        """All scores and samples of a run."""
        made_of = read_json(report_inputs(self.results, wildcards.report))
        return [*made_of["scores"], *made_of["samples"]]

    def memory_mb(self, wildcards: Any, attempt: int) -> int:
        """Main memory for a job of a model: twice its weights and room for the libraries; more with each attempt."""
        weights = self.model(wildcards)["source"]["bytes"] or 0
        return attempt * (4000 + 2 * weights // 1_000_000)


def _first_line(file: Any) -> dict[str, Any]:
    return dict(json.loads(file.readline()))


def python_command(workflow: Any) -> str:
    """How rules call the commands in scripts/: this interpreter, or their conda environment's if it is on."""
    deployment = workflow.deployment_settings
    conda = deployment and any(str(method) == "conda" for method in deployment.deployment_method)
    interpreter = "python" if conda else shlex.quote(sys.executable)
    return f"{interpreter} {shlex.quote(os.path.join(workflow.basedir, 'scripts'))}"
