"""What the Snakefile calls while it is parsed."""

import atexit
import json
import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from shardmark.config import RunConfig
from shardmark.errors import UserError, disk_problem
from shardmark.files import digest, pretty_json, read_json, write_if_changed
from shardmark.plan.bundles import SCORE_MB, START_MINUTES, Bundle, Shard, bundle, job_seconds
from shardmark.plan.changes import lock_lines
from shardmark.plan.datasets import shards_file
from shardmark.plan.divisions import Divisions
from shardmark.plan.machine import visible_gpus
from shardmark.plan.plan import Plan, make_plan, model_file, report_inputs
from shardmark.plan.publish import publish
from shardmark.plan.slurm import RESOURCES, prepare_slurm, refusals
from shardmark.plan.summary import print_summary, progress

DRY_RUN = {"-n", "--dry-run", "--dryrun"}
SHARDS, SUBMITTED = "shards", "submitted"
"What the profiles' group-components call the groups of all jobs; and the group that a job on a cluster itself is."
TOOLS = {
    "relock": ("relock.py", "what does this configuration resolve to now?"),
    "list": ("list.py", "which models and data sets are there?"),
    "prompts": ("prompts.py", "what are the models asked?"),
    "plan": ("plan.py", "what would run?"),
    "gc": ("garbage.py", "which results does no run need any more?"),
    "verify": ("verify.py", "are all files what they were written as?"),
}
"Targets of rules/tools.smk, for which the Snakefile makes no plan: the command in scripts/ and what it tells."


def plan_or_exit(
    config: dict[str, Any],
    where: str,
    command_line: Collection[str] = (),
    cores: int | None = None,
    jobs: int | None = None,
) -> Plan:
    """The plan, with its summary printed; on mistakes of the user their list, and exit status 1.

    `where` is what to call the configuration, `command_line` the keys that `--config` gave, `cores` how many jobs may
    use on this machine (None: they run elsewhere), `jobs` how many may run at once (None: as many as there are).
    """
    console = Console(stderr=True, soft_wrap=True)
    with _exit_on_mistakes(config.get("results", "results")):
        with progress(console) as step:
            plan = make_plan(config, Path.cwd(), where, cores is not None, step, command_line)
        for warning in plan.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        print_summary(plan, console, lambda pair: slots(pair.model["settings"], config, cores, jobs))
        for line in lock_lines(plan.lock):
            print(line, file=sys.stderr)
        if not DRY_RUN.intersection(sys.argv):
            announce(plan)
        return plan


@contextmanager
def _exit_on_mistakes(results: str) -> Iterator[None]:
    """A block after whose UserError or OSError the process ends with a message and status 1."""
    try:
        yield
        return
    except UserError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        problem = disk_problem(error, results)
        if problem is None:
            raise
        print(UserError(replace(problem, key="results")), file=sys.stderr)
    sys.stderr.flush()
    sys.exit(1)


def tool_wanted() -> bool:
    """Whether the command line names a target of rules/tools.smk."""
    return not TOOLS.keys().isdisjoint(sys.argv[1:])


def tool_config(config: dict[str, Any], results: str) -> str:
    """A file with the merged configuration of this run, for a command; named by its content."""
    with _exit_on_mistakes(results):
        values = json.loads(json.dumps(config, default=str))  # YAML has dates
        path = Path(results) / "plans" / "configs" / f"{digest(values)}.json"
        write_if_changed(path, pretty_json(values))
    return str(path)


def tool_options(tool: str, resource_settings: Any) -> str:
    """What a command must know of this call of Snakemake beside the configuration."""
    if tool != "plan":
        return ""
    cores = (resource_settings.cores or 1) if runs_here(resource_settings) else None
    given = {"--cores": cores, "--jobs": resource_settings.nodes}
    return "".join(f" {option} {value}" for option, value in given.items() if value)


def not_planned(wildcards: Any) -> list[str]:
    """The targets of a run beside a command: none are known, so that it is an error to want both."""
    wanted = [word for word in sys.argv[1:] if word in TOOLS]
    raise ValueError(f"{' and '.join(wanted)}: name this target alone, then start the run")


def prepare(workflow: Any) -> None:
    """What is left to do before the first job, now that it is known where jobs run."""
    if workflow.is_main_process:
        with _exit_on_mistakes("results"):
            prepare_slurm(workflow)


def finish(plan: Plan | None) -> None:
    """What is left to do when all jobs have ended well; no plan is that of a command such as `relock`."""
    warn_of_changes(plan)
    if plan:
        plan.measure()
        announce(plan)


def announce(plan: Plan) -> None:
    """If the report is there, the run's name points to it, and its path is the last thing that is printed."""
    if (plan.report / "index.html").is_file():  # it is not after a run --until something earlier
        publish(plan.report, plan.published)
        atexit.register(print, f"report: {plan.published}/index.html", file=sys.stderr)


def fail(plan: Plan | None) -> None:
    """What is left to do when a job has failed: what the others took is measured all the same."""
    warn_of_changes(plan)
    for line in refusals():
        print(line, file=sys.stderr)
    if plan:
        plan.measure()


def warn_of_changes(plan: Plan | None) -> None:
    """Name each file of data or models that is no longer what was planned with."""
    for path in plan.files.changed() if plan else ():
        print(f"changed during the run: {path}; run again to evaluate what is there now", file=sys.stderr)


def runs_here(resource_settings: Any) -> bool:
    """Whether jobs run on this machine, as far as is known while the Snakefile is parsed.

    The executor is chosen later, but only a cluster's has no number of cores (except in a dry run, which makes one up).
    """
    cores, nodes = resource_settings.cores, resource_settings.nodes
    return nodes is None or (cores is not None and not DRY_RUN.intersection(sys.argv))


def local_limits(config: dict[str, Any]) -> dict[str, int]:
    """The resources that bound jobs on this machine, where the user sets no others."""
    limits = {"gpu": len(visible_gpus()), "staging": 1}
    workers = config.get("max_num_workers")
    return limits | ({"worker": int(workers)} if workers else {})


def slots(settings: dict[str, Any], config: dict[str, Any], cores: int | None, jobs: int | None) -> int | None:
    """How many jobs of a model can run at once; None if nothing bounds them."""
    bounds = [int(bound) for bound in (jobs, config.get("max_num_workers")) if bound]
    if cores is not None:
        bounds.append(cores // settings["cpus"])
        bounds += [len(visible_gpus()) // settings["num_gpus"]] if settings["num_gpus"] else []
    return max(1, min(bounds)) if bounds else None


def cluster_bundles(plan: Plan) -> list[Bundle]:
    """The shards that are to run, as the jobs of a cluster."""
    return bundle(plan.pairs, job_seconds(plan.benchmark.run))


def use_job_profile(basedir: str) -> None:
    """Let Snakemake inside a job of a cluster, which inherits this environment, read profiles/job."""
    os.environ["SNAKEMAKE_PROFILE"] = os.path.join(basedir, "profiles", "job")


class _Wildcards(NamedTuple):
    model: str
    dataset: str
    shard: str


class Inputs:
    """Input files and needs of a job, from the wildcards alone: a job on a cluster has no plan, only these files."""

    def __init__(self, results: str, config: dict[str, Any], main: bool = True) -> None:
        self.results = Path(results)
        self._main = main
        self.order: list[str] = []
        "The models of the run, first come first; known in the main process only, which decides what runs next."
        self.bundled: dict[Shard, Bundle] = {}
        "The job of each shard, on a cluster; known in the main process only."
        self.defaults: Mapping[str, Any] = {}
        "The profile's default-resources, each a Resource of Snakemake's."
        self.overrides: Mapping[str, Any] = {}
        "What --set-resources gives the rule infer, likewise."
        self._config = config
        self._divisions: dict[str, Divisions] = {}

    def model(self, wildcards: Any) -> dict[str, Any]:
        """The record of the model of a job."""
        return dict(read_json(model_file(self.results, wildcards.model)))

    def priority(self, wildcards: Any) -> int:
        """A model's jobs come before those of the next model, so that each is loaded once."""
        return len(self.order) - self.order.index(wildcards.model) if wildcards.model in self.order else 0

    def staging_priority(self, wildcards: Any) -> int:
        """Weights come before all inference, and in the order of the models: the second must not start first."""
        return len(self.order) + self.priority(wildcards)

    def bits(self, wildcards: Any) -> int:
        """Into how many shards the data set of a score is divided for its model, as a number of bits."""
        if wildcards.model not in self._divisions:
            run = RunConfig.model_validate(self._config)
            self._divisions[wildcards.model] = Divisions(self.results, wildcards.model, run)
        return self._divisions[wildcards.model].bits(wildcards.dataset)

    def missing_predictions(self, wildcards: Any) -> list[str]:
        """The shards of a data set that are still to be inferred.

        What is there is right, as its path says, and stays out of Snakemake's sight: it would delete and make anew all
        predictions of a model whose weights are staged again. The score command reads and checks every shard itself.
        """
        levels = read_json(shards_file(self.results, wildcards.dataset, wildcards.task))["levels"]
        folder = f"{self.results}/predictions/{wildcards.model}/{wildcards.dataset}"
        paths = [f"{folder}/{shard['name']}.jsonl" for shard in levels[str(self.bits(wildcards))]]
        return [path for path in paths if not os.path.isfile(path)]

    def report(self, wildcards: Any) -> list[str]:
        """The scores, samples and timings of a run that are not there yet."""
        made_of = read_json(report_inputs(self.results, wildcards.report))
        return [path for kind in ("scores", "samples", "timings") for path in made_of[kind] if not os.path.isfile(path)]

    def use_bundles(self, bundles: Collection[Bundle]) -> None:
        """Say which shards share a job."""
        self.bundled = {shard: one for one in bundles for shard in one.shards}

    def group_names(self) -> set[str]:
        """All groups that jobs of this process can belong to."""
        return {one.name for one in self.bundled.values()} if self._main else {SUBMITTED}

    def group(self, wildcards: Any) -> str | None:
        """The group of a shard's job; None if it is alone. On the cluster, what one job got is one group."""
        if not self._main:
            return SUBMITTED
        mine = self.bundled.get((wildcards.model, wildcards.dataset, wildcards.shard))
        return mine.name if mine and len(mine.shards) > 1 else None

    def score_group(self, wildcards: Any) -> str | None:
        """The group that infers all that a score waits for; None if there are several, or none."""
        if not self._main:
            return SUBMITTED
        groups = {
            self.group(_Wildcards(wildcards.model, wildcards.dataset, Path(path).stem))
            for path in self.missing_predictions(wildcards)
        }
        return groups.pop() if len(groups) == 1 else None

    def minutes(self, wildcards: Any, attempt: int, **context: Any) -> int:
        """How long a shard's job may take; of several in a group, whose times add up, the first has nearly all.

        Where the user says how long a job may take, that is the whole job: a partition may allow no minute more.
        """
        shard = (wildcards.model, wildcards.dataset, wildcards.shard)
        mine = self.bundled.get(shard)
        if mine is None:
            return START_MINUTES
        own = mine.model["settings"]["slurm"]["runtime"]
        least = 0 if own else self._least("runtime", wildcards, attempt, context)
        if mine.shards[0] != shard:
            return 0 if own or least else 1
        return max(mine.minutes(attempt), least)

    def score_minutes(self, wildcards: Any, attempt: int, **context: Any) -> int:
        """How long scoring may take: a job of its own takes longer to start."""
        least = self._least("runtime", wildcards, attempt, context)
        if self.score_group(wildcards):
            own = self.model(wildcards)["settings"]["slurm"]["runtime"]
            return 0 if own or least else attempt * 2
        return max(attempt * START_MINUTES, least)

    def score_memory_mb(self, wildcards: Any, attempt: int, **context: Any) -> int:
        """Main memory for scoring; in a job that infers, what that asks for."""
        if self.score_group(wildcards):
            return self.memory_mb(wildcards, attempt, **context)
        return attempt * max(SCORE_MB, self._least("mem_mb", wildcards, attempt, context))

    def slurm(self, key: str) -> Callable[[Any], Any]:
        """What a model's file says of its jobs on Slurm, or else the profile's default-resources."""

        def asked(wildcards: Any, **context: Any) -> Any:
            own = self.model(wildcards)["settings"]["slurm"][RESOURCES[key]]
            return own or self._default(key, wildcards, context)

        return asked

    def score_slurm(self, key: str) -> Callable[[Any], Any]:
        """What scoring asks of Slurm: in a job that infers, what that asks for, as a job has only one partition.

        Alone, the profile's default-resources: the model's own may name nodes with GPUs that scoring has no use for.
        """
        inferring = self.slurm(key)

        def asked(wildcards: Any, **context: Any) -> Any:
            if not self.score_group(wildcards):
                return self._default(key, wildcards, context)
            given = self.overrides.get(key)
            return given.evaluate(wildcards, **context).value if given else inferring(wildcards, **context)

        return asked

    def _default(self, key: str, wildcards: Any, context: dict[str, Any]) -> Any:
        default = self.defaults.get(key)  # an expression, which may need the context: attempt, threads, ...
        return default.evaluate(wildcards, **context).value if default else None

    def _least(self, key: str, wildcards: Any, attempt: int, context: dict[str, Any]) -> int:
        """What a job asks for at least: a number of the profile's default-resources; 0 without one."""
        found = self._default(key, wildcards, {"attempt": attempt, **context})
        return found if isinstance(found, int) else 0

    def memory_mb(self, wildcards: Any, attempt: int, **context: Any) -> int:
        """Main memory for a job of a model: twice its weights and room for the libraries; more with each attempt."""
        record = self.model(wildcards)
        if own := record["settings"]["slurm"]["mem_mb"]:
            return attempt * int(own)
        needed = 4000 + 2 * (record["source"]["bytes"] or 0) // 1_000_000
        return attempt * max(needed, self._least("mem_mb", wildcards, attempt, context))


def python_command(workflow: Any) -> str:
    """How rules call the commands in scripts/: this interpreter, or their conda environment's if it is on."""
    deployment = workflow.deployment_settings
    conda = deployment and any(str(method) == "conda" for method in deployment.deployment_method)
    interpreter = "python" if conda else shlex.quote(sys.executable)
    return f"{interpreter} {shlex.quote(os.path.join(workflow.basedir, 'scripts'))}"
