"""What the Snakefile calls while it is parsed."""

import argparse
import atexit
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from shardmark import layout
from shardmark.config import ModelConfig
from shardmark.config.load import refuse_bombs
from shardmark.config.merge import add_config_arguments, check_file, lost_quotes
from shardmark.errors import Problem, UserError, disk_problem
from shardmark.files import digest, pretty_json, write_if_changed
from shardmark.lock.changes import lock_lines
from shardmark.plan.machine import visible_gpus
from shardmark.plan.plan import Plan, make_plan
from shardmark.plan.summary import print_summary, progress
from shardmark.printable import printable
from shardmark.workflow import patches
from shardmark.workflow.completeness import check_targets
from shardmark.workflow.interrupts import cancels_all, ends_soon, out_of_reach
from shardmark.workflow.publish import publish
from shardmark.workflow.slurm import prepare_slurm, refusals

if TYPE_CHECKING:
    from snakemake.settings.types import ResourceSettings
    from snakemake.workflow import Workflow

DRY_RUN = {"-n", "--dry-run", "--dryrun"}
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
    check_notes(Path.cwd())
    with _exit_on_mistakes(config.get("results", "results")):
        _refuse_lost_quotes(command_line)
        with progress(console) as step:
            plan = make_plan(config, Path.cwd(), where, cores is not None, step, command_line)
        for warning in plan.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        print_summary(plan, console, lambda pair: slots(pair.model.settings, config, cores, jobs))
        for line in lock_lines(plan.lock):
            print(printable(line), file=sys.stderr)
        if not DRY_RUN.intersection(sys.argv):
            announce(plan)
        return plan


def _refuse_lost_quotes(keys: Collection[str]) -> None:
    """Raise UserError if Snakemake has cut the quotes off a value that `--config` gave to one of the keys."""
    if problems := lost_quotes(sys.argv[1:], keys):
        raise UserError(problems)


def check_notes(folder: Path) -> None:
    """Exit with a message if Snakemake could not write its notes to the folder it is called in, before it tries to."""
    notes = folder / ".snakemake"
    try:
        notes.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=notes):
            pass
    except OSError as error:
        what = f"{error.strerror}; Snakemake keeps its locks and logs there"
        print(
            Problem(str(notes), "", what, "make room or fix the permissions, or use a clone elsewhere"), file=sys.stderr
        )
        sys.stderr.flush()
        sys.exit(1)


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


def check_or_exit(file: Path) -> None:
    """End the process with a message if Snakemake could not read a configuration file."""
    with _exit_on_mistakes("results"):
        check_file(file)


def check_configfiles(words: list[str]) -> None:
    """End the process with a message if Snakemake could not read a file that its command line names.

    Called from profiles/default: Snakemake reads these files before the Snakefile.
    """
    parser = argparse.ArgumentParser(add_help=False)
    add_config_arguments(parser)
    for file in parser.parse_known_args(words)[0].configfile:
        if file.is_file():
            check_or_exit(file)


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
    """What a command must know of this call of Snakemake beside the configuration."""
    if tool != "plan":
        return ""
    given = {"--cores": cores_here(resource_settings), "--jobs": resource_settings.nodes}
    return "".join(f" {option} {value}" for option, value in given.items() if value)


def not_planned(wildcards: object) -> list[str]:
    """The targets of a run beside a command: none are known, so that it is an error to want both."""
    wanted = [word for word in sys.argv[1:] if word in TOOLS]
    raise ValueError(f"{' and '.join(wanted)}: name this target alone, then start the run")


def prepare(workflow: "Workflow") -> None:
    """What is left to do before the first job, now that it is known where jobs run."""
    if workflow.is_main_process:
        with _exit_on_mistakes("results"):
            prepare_slurm(workflow)
        executor = workflow.executor_plugin and workflow.executor_plugin.executor
        if executor and issubclass(executor, RemoteExecutor):
            cancels_all(executor)
            out_of_reach(sys.modules[executor.__module__])
        for line in patches.unlike():
            print(f"warning: {line}", file=sys.stderr)


def finish(plan: Plan | None, missing: list[str]) -> None:
    """What is left to do when all jobs have ended well; no plan is that of a command such as `relock`.

    Raises WorkflowError, so that the run fails, if files that it was to make are `missing`.
    """
    warn_of_changes(plan)
    if plan:
        plan.measure()
        announce(plan)
    check_targets(missing)


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
        print(printable(f"changed during the run: {path}; run again to evaluate what is there now"), file=sys.stderr)


def cores_here(resource_settings: "ResourceSettings") -> int | None:
    """How many cores jobs may use on this machine; None if they run elsewhere."""
    return (resource_settings.cores or 1) if runs_here(resource_settings) else None


def runs_here(resource_settings: "ResourceSettings") -> bool:
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


def slots(settings: ModelConfig, config: dict[str, Any], cores: int | None, jobs: int | None) -> int | None:
    """How many jobs of a model can run at once; None if nothing bounds them."""
    bounds = [int(bound) for bound in (jobs, config.get("max_num_workers")) if bound]
    if cores is not None:
        bounds.append(cores // settings.cpus)
        bounds += [len(visible_gpus()) // settings.num_gpus] if settings.num_gpus else []
    return max(1, min(bounds)) if bounds else None


def prepare_cluster(basedir: str) -> None:
    """What must be so before jobs run elsewhere, and before Snakemake has an executor for them.

    Snakemake inside a job, which inherits this environment, reads profiles/job.
    """
    ends_soon(RemoteExecutor)
    os.environ["SNAKEMAKE_PROFILE"] = os.path.join(basedir, "profiles", "job")


def uses_conda(workflow: "Workflow") -> bool:
    """Whether jobs run in the rules' conda environments."""
    deployment = workflow.deployment_settings
    return bool(deployment) and any(str(method) == "conda" for method in deployment.deployment_method)


def python_command(workflow: "Workflow") -> str:
    """How rules call the commands in scripts/: this interpreter, or their conda environment's if it is on."""
    interpreter = "python" if uses_conda(workflow) else shlex.quote(sys.executable)
    return f"{interpreter} {shlex.quote(os.path.join(workflow.basedir, 'scripts'))}"
