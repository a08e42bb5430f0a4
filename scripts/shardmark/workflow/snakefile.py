"""Functions that the Snakefile calls while it is parsed."""

import argparse
import atexit
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from shardmark import layout
from shardmark.config import ModelConfig
from shardmark.config.load import refuse_bombs
from shardmark.config.merge import add_config_arguments, check_file, lost_quotes, no_assignments
from shardmark.errors import Problem, UserError, disk_problem
from shardmark.files import digest, pretty_json, sealed, write_if_changed
from shardmark.installation import SCRIPTS
from shardmark.lock.changes import lock_lines
from shardmark.plan.machine import visible_gpus
from shardmark.plan.missing import missing_problems
from shardmark.plan.plan import Plan, make_plan
from shardmark.plan.summary import print_summary, progress
from shardmark.printable import printable
from shardmark.tools.commands import TOOLS
from shardmark.tools.node_probe import SLURM_FLAGS, probe_nodes
from shardmark.workflow import patches
from shardmark.workflow.completeness import check_targets
from shardmark.workflow.interrupts import cancels_all, ends_soon, out_of_reach
from shardmark.workflow.newest_report import link_newest
from shardmark.workflow.slurm import PROFILE, RESOURCES, partition_problems, prepare_slurm, refusals
from shardmark.workflow.standings import print_standings
from shardmark.workflow.warm_starts import start_first_worker

if TYPE_CHECKING:
    from snakemake.settings.types import ResourceSettings
    from snakemake.workflow import Workflow

DRY_RUN = re.compile(r"--dry-?run|-[fFkpqr]*n[fFkpqrn]*")
"Dry-run options on the command line, alone or among other one-letter options, as in -np."
NO_JOBS = re.compile(
    r"-[DSlt]$|--(archive|cleanup|conda-c|container|d3dag|dag|delete|detailed|filegraph|generate|l[ciptu]$|lint|list|"
    r"print-c|report|rulegraph|summary|touch|unlock)"
)
"Options with which Snakemake runs no job, and some of which it does after all; long ones by their first letters."
WIDTH = 120
"The width of tables in a file."
NOTHING_RUN = "; nothing was run"


def plan_or_exit(
    config: dict[str, Any],
    where: str,
    command_line: Collection[str] = (),
    cores: int | None = None,
    jobs: int | None = None,
    forks: bool = False,
) -> Plan:
    """The plan, with its summary printed; for mistakes of the user, their list and exit status 1.

    `where` is the name of the configuration in messages; `command_line` are the keys given with `--config`; `cores` is
    the number of cores for jobs on this machine (None: they run elsewhere); `jobs` is the most jobs at once (None: no
    limit); `forks` says whether jobs may be forks of processes of this run.
    """
    console = Console(stderr=True, soft_wrap=True)
    if not console.is_terminal:
        console = Console(stderr=True, soft_wrap=True, width=WIDTH)
    check_notes(Path.cwd())
    with _exit_on_mistakes(config.get("results", "results")):
        _refuse_lost_quotes(command_line)
        with progress(console) as step:
            begun = [partial(start_first_worker, cores=cores)] if forks and cores and runs_jobs() else []
            plan = make_plan(config, Path.cwd(), where, cores is not None, step, command_line, is_dry_run(), *begun)
        for warning in plan.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        print_summary(plan, console, lambda pair: slots(pair.model.settings, config, cores, jobs))
        for line in lock_lines(plan.lock, is_dry_run()):
            print(printable(line), file=sys.stderr)
        if not is_dry_run():
            note_current(plan)
            announce(plan)
        return plan


def note_current(plan: Plan) -> None:
    """Record the plan that a run follows, under the run's name, for looking at its results before it has ended."""
    path = layout.CURRENT.file(plan.results, file=f"{plan.benchmark.run.run}.json")
    write_if_changed(path, pretty_json(sealed({"report": plan.report.name})))


def is_dry_run() -> bool:
    """Whether Snakemake was asked to run nothing."""
    return any(DRY_RUN.fullmatch(word) for word in sys.argv[1:])


def runs_jobs() -> bool:
    """Whether Snakemake was asked to run jobs, as far as its options say."""
    return not is_dry_run() and not any(NO_JOBS.match(word) for word in sys.argv[1:])


def _refuse_lost_quotes(keys: Collection[str]) -> None:
    """Raise UserError if Snakemake has removed the quotes of a value given to one of the keys with `--config`."""
    if problems := lost_quotes(sys.argv[1:], keys):
        raise UserError(problems)


def check_notes(folder: Path) -> None:
    """Exit with a message if Snakemake could not write its notes to the folder it is called in, before it tries."""
    notes = folder / ".snakemake"
    try:
        notes.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=notes):
            pass
    except OSError as error:
        what = f"{error.strerror}; Snakemake keeps its locks and logs there"
        print(
            Problem(str(notes), "", what, "free some space, fix the permissions, or use a clone elsewhere"),
            file=sys.stderr,
        )
        sys.stderr.flush()
        sys.exit(1)


@contextmanager
def _exit_on_mistakes(results: str) -> Iterator[None]:
    """A block before the first job whose UserError or OSError ends the process with a message and status 1."""
    try:
        yield
        return
    except UserError as error:
        print(error.told(NOTHING_RUN), file=sys.stderr)
    except OSError as error:
        problem = disk_problem(error, results)
        if problem is None:
            raise
        print(UserError(replace(problem, key="results")).told(NOTHING_RUN), file=sys.stderr)
    sys.stderr.flush()
    sys.exit(1)


def check_or_exit(file: Path) -> None:
    """Exit with a message if Snakemake could not read a configuration file."""
    with _exit_on_mistakes("results"):
        check_file(file)


def check_command_line(words: list[str]) -> None:
    """Exit with a message if Snakemake could not read a file or setting given on its command line.

    Called from profiles/default: Snakemake reads these before the Snakefile, and answers with tracebacks.
    """
    parser = argparse.ArgumentParser(add_help=False)
    add_config_arguments(parser)
    given = parser.parse_known_args(words)[0]
    for file in given.configfile:
        check_or_exit(file)
    with _exit_on_mistakes("results"):
        if problems := no_assignments(given.config):
            raise UserError(problems)


def tool_wanted() -> bool:
    """Whether the command line names a target of rules/tools.smk."""
    return not TOOLS.keys().isdisjoint(sys.argv[1:])


def tool_config(config: dict[str, Any], results: str) -> str:
    """A file with the merged configuration of this run, for a command; named by its content."""
    with _exit_on_mistakes(results):
        refuse_bombs(config, "the configuration")
        _refuse_lost_quotes(config)
        values = json.loads(json.dumps(config, default=str))  # YAML has dates
        path = layout.CONFIGS.file(results, config=digest(values))
        write_if_changed(path, pretty_json(values))
    return str(path)


def tool_options(tool: str, resource_settings: "ResourceSettings") -> str:
    """Options that pass facts about this call of Snakemake, besides the configuration, to a command."""
    if tool not in ("plan", "preflight"):
        return ""
    given = {"--cores": cores_here(resource_settings), "--jobs": resource_settings.nodes}
    return "".join(f" {option} {value}" for option, value in given.items() if value)


def not_planned(wildcards: object) -> list[str]:
    """The targets of a run that is requested together with a command: always an error, because none are planned."""
    wanted = [word for word in sys.argv[1:] if word in TOOLS]
    raise ValueError(f"{' and '.join(wanted)}: give this target alone, then start the run")


def prepare(workflow: "Workflow", results: str) -> None:
    """Final preparations before the first job, when it is known where jobs run."""
    if workflow.is_main_process:
        with _exit_on_mistakes(results):
            prepare_slurm(workflow, Path(results))
        executor = workflow.executor_plugin and workflow.executor_plugin.executor
        if executor and issubclass(executor, RemoteExecutor):
            cancels_all(executor)
            out_of_reach(sys.modules[executor.__module__])
        for line in patches.unlike():
            print(f"warning: {line}", file=sys.stderr)


def preflight_or_exit(plan: Plan | None, workflow: "Workflow") -> None:
    """Exit, before the first job, with a list of everything that its jobs would find missing, here and on a node."""
    flags = slurm_flags(workflow)
    if plan:
        with _exit_on_mistakes(plan.benchmark.run.results):
            problems = missing_problems(plan.waiting_models())
            if flags is not None:
                problems += probe_nodes(plan, flags, lambda line: print(line, file=sys.stderr))
            if problems:
                raise UserError(problems)
    elif flags is not None:
        os.environ[SLURM_FLAGS] = json.dumps(flags)  # for the command preflight


def finish(plan: Plan | None, missing: list[str]) -> None:
    """Work after all jobs have ended well; `plan` is None for a command such as `relock`.

    Raises WorkflowError, so that the run fails, if files that it should have made are `missing`.
    """
    warn_of_changes(plan)
    if plan:
        plan.measure()
        announce(plan)
    check_targets(missing)


def announce(plan: Plan) -> None:
    """If the report exists, point the run's name to it, and print its standings at exit."""
    if (plan.report / "index.html").is_file():  # it does not exist after a run --until something earlier
        link_newest(plan.report, plan.published)
        atexit.register(tell, plan.published, "report")


def tell(report: Path, what: str) -> None:
    """Print the leaderboard of a report, and its path."""
    print_standings(report, Console(stderr=True))
    print(f"{what}: {report}/index.html", file=sys.stderr)


def fail(plan: Plan | None) -> None:
    """Work after a job has failed: the times of the others are still measured."""
    warn_of_changes(plan)
    for line in refusals():
        print(line, file=sys.stderr)
    if plan:
        plan.measure()


def warn_of_changes(plan: Plan | None) -> None:
    """Warn of each file of data or models that has changed since planning."""
    for path in plan.files.changed() if plan else ():
        print(printable(f"changed during the run: {path}; run again to evaluate what is there now"), file=sys.stderr)


def cores_here(resource_settings: "ResourceSettings") -> int | None:
    """The number of cores for jobs on this machine; None if they run elsewhere."""
    return (resource_settings.cores or 1) if runs_here(resource_settings) else None


def runs_here(resource_settings: "ResourceSettings") -> bool:
    """Whether jobs run on this machine, as far as known while the Snakefile is parsed.

    The executor is chosen later, but only a cluster's has no number of cores (except in a dry run, which makes one up).
    """
    cores, nodes = resource_settings.cores, resource_settings.nodes
    return nodes is None or (cores is not None and not is_dry_run())


def local_limits(config: dict[str, Any]) -> dict[str, int]:
    """The resources that limit jobs on this machine, unless the user sets others."""
    limits = {"gpu": len(visible_gpus()), "staging": 1}
    workers = config.get("max_num_workers")
    return limits | ({"worker": int(workers)} if workers else {})


def slots(settings: ModelConfig, config: dict[str, Any], cores: int | None, jobs: int | None) -> int | None:
    """The most jobs of a model that can run at once; None without a limit."""
    bounds = [int(bound) for bound in (jobs, config.get("max_num_workers")) if bound]
    if cores is not None:
        bounds.append(cores // settings.cpus)
        bounds += [len(visible_gpus()) // settings.num_gpus] if settings.num_gpus else []
    return max(1, min(bounds)) if bounds else None


def check_partitions(plan: Plan, default: Any) -> None:
    """Exit if Slurm is here but lacks a partition that a model or the profile names."""
    given = [(m.file, "slurm.partition", m.settings.slurm.partition) for m in plan.models if not m.settings.elsewhere]
    wanted = [(file, key, name) for file, key, name in given if name]
    if own := _default_value(default):
        wanted.append((PROFILE, "default-resources.slurm_partition", own))
    with _exit_on_mistakes(plan.benchmark.run.results):
        if problems := partition_problems(wanted):
            raise UserError(problems)


def _default_value(default: Any) -> str:
    """The value of one of the profile's default-resources; empty without one, or if only a job can tell."""
    with suppress(Exception):  # an expression may use anything that only a job knows
        known = {"input": [], "attempt": 1, "threads": 1, "rulename": "infer", "async_run": None}
        return str(default.evaluate(None, **known).value or "")
    return ""


def slurm_flags(workflow: "Workflow") -> dict[str, str] | None:
    """The profile's Slurm flags by key of a model's `slurm`, if jobs run on Slurm in this Python; else None."""
    plugin = workflow.executor_plugin
    if plugin is None or plugin.name != "slurm" or _deployment(workflow):
        return None
    defaults = workflow.resource_settings.default_resources or {}
    return {key: found for resource, key in RESOURCES.items() if (found := _default_value(defaults.get(resource)))}


def prepare_cluster(basedir: str) -> None:
    """Set up the environment before jobs run elsewhere, and before Snakemake has an executor for them.

    Snakemake inside a job inherits this environment, and reads profiles/job.
    """
    ends_soon(RemoteExecutor)
    os.environ["SNAKEMAKE_PROFILE"] = os.path.join(basedir, "profiles", "job")


def uses_conda(workflow: "Workflow") -> bool:
    """Whether jobs run in the rules' conda environments."""
    return "conda" in _deployment(workflow)


def _deployment(workflow: "Workflow") -> set[str]:
    """The deployment methods for jobs' software."""
    deployment = workflow.deployment_settings
    return {str(method) for method in deployment.deployment_method} if deployment else set()


def image_or_exit(config: dict[str, Any], workflow: "Workflow") -> str | None:
    """The image that jobs run in, if they use one; exits with a message if none is given."""
    if "apptainer" not in _deployment(workflow):
        return None
    with _exit_on_mistakes(config.get("results", "results")):
        if not config.get("container"):
            fix = "set container to the image, such as shardmark.sif, made from envs/shardmark.def"
            raise UserError(Problem("--sdm apptainer", "container", "no image is given to run jobs in", fix))
    return str(config["container"])


def python_command(workflow: "Workflow", *options: str, image: str | None = None) -> str:
    """The command prefix for scripts/ in rules: this interpreter, or that of their conda environment or image."""
    interpreter = "python" if image or uses_conda(workflow) else shlex.quote(sys.executable)
    return " ".join([interpreter, *options, shlex.quote(SCRIPTS)])
