"""Corrections of Snakemake's Slurm plugin: for jobs that it would wait for for ever, and errors that it does not show.

It assumes that Slurm will restart a preempted job, which partitions that cancel preempted jobs never do; that a job
that the scheduler has forgotten is merely unknown yet; and that a job that `sacct` reports as cancelled, and by whom,
is running. The first two are recognized by two equal answers of the scheduler. It forgets a group of jobs that it
cannot submit, for instance because the user may not use an account; and Snakemake does not show why a group failed. A
job that its partition will never start, but that most clusters accept, waits silently. Its jobs' names say nothing.

The plugin's functions that query, submit and report are wrapped during a run.
"""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from logging import Logger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardmark.errors import Problem, UserError, nearest
from shardmark.workflow import patches
from shardmark.workflow.accounting import Accounts
from shardmark.workflow.interrupts import submits_none_afterwards
from shardmark.workflow.job_names import OF_USER, is_of, naming, of_user

if TYPE_CHECKING:
    from snakemake.workflow import Workflow
    from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
    from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

RESOURCES = {
    "slurm_partition": "partition",
    "slurm_account": "account",
    "qos": "qos",
    "constraint": "constraint",
    "slurm_extra": "extra",
}
"Maps resources of Snakemake's Slurm executor to keys of a model's `slurm`."
PROFILE = "profiles/slurm/config.yaml"
SECONDS_KEY = "slurm-init-seconds-before-status-checks"
LOST, UNKNOWN = "FAILED", "UNKNOWN"
"States for the plugin: submit the job again; or check whether its files exist, and submit it again if not."
ASK_SECONDS, SINFO_SECONDS = 60, 10
REFUSALS: Counter[str] = Counter()
"Reasons why jobs of this run could not be submitted, with counts."
SBATCH_WORDS = re.compile(r"The error message was '(.*?)'\.\n", re.DOTALL)
"sbatch's message within the plugin's: the rest is a command line of thousands of characters."
WITHOUT_ACCOUNTS = ("accounting_storage/none", "(null)")
ASK_WHY = f"squeue {OF_USER} --noheader --states=PENDING '--format=%i|%j %r'"
QUEUED = ("None", "Resources", "Priority", "BeginTime")
"Reasons for waiting of jobs that will run eventually."
SETTING = re.compile(r"^(\w+)\s*=\s*(.*?)\s*$", re.MULTILINE)

Answer = tuple[dict[str, str] | None, float | None]
"Results of the plugin's query: the state of each job, or None if the scheduler did not answer; and seconds."


def prepare_slurm(workflow: "Workflow", results: Path) -> None:
    """Check and correct how a run on Slurm queries its jobs; called when the run starts."""
    plugin = workflow.executor_plugin
    if plugin is None or plugin.name != "slurm":
        return
    check_commands()
    settings = workflow.executor_settings
    cluster = _cluster_settings()
    check_memory(cluster, settings.status_command, settings.init_seconds_before_status_checks)
    import snakemake_executor_plugin_slurm as module

    patches.replace(module, patches.SLURM_QUERY, lambda query: corrected(telling(query)))
    if cluster.get("AccountingStorageType") not in WITHOUT_ACCOUNTS:
        accounts = Accounts(results)
        patches.replace(module.Executor, patches.SLURM_SUBMITTED, accounts.noting)
        patches.replace(module, patches.SLURM_QUERY, accounts.looking_up)
    patches.replace(module.Executor, patches.SLURM_RUN_JOB, submitting)
    patches.replace(module.Executor, patches.SLURM_FAILED, explaining)
    submits_none_afterwards(module.Executor)
    queries = [module.query_job_status_squeue("run"), module.query_job_status_sacct("run")]
    if not patches.unlike() and all(of_user(query)[0] for query in queries):  # jobs with other names must be found
        patches.replace(module, patches.SLURM_SUBMIT_COMMAND, naming)


def partition_problems(wanted: Iterable[tuple[str, str, str]]) -> list[Problem]:
    """Problems for each (file, key, partition) that this cluster does not have; none if sinfo does not answer."""
    asked = [(file, key, name) for file, key, names in wanted for name in str(names).split(",") if name]
    there = _partitions() if asked else set()
    return [
        Problem(file, key, f"this cluster has no partition {name!r}", nearest(name, there))
        for file, key, name in dict.fromkeys(asked)
        if there and name not in there
    ]


def _partitions() -> set[str]:
    """The names of all partitions that the user may see."""
    try:
        ask = ["sinfo", "--noheader", "--format=%R"]
        done = subprocess.run(ask, capture_output=True, text=True, errors="replace", timeout=SINFO_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return set()
    return set(done.stdout.split()) if done.returncode == 0 else set()


def check_commands() -> None:
    """Raise UserError if there is no Slurm to submit to."""
    if shutil.which("sbatch") is None:
        what = "is slurm, but sbatch is not installed on this machine"
        raise UserError(Problem(PROFILE, "executor", what, "run on a login node, or use --profile local"))


def submitting(run_job: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """The plugin's submission of a job, changed to report errors before sbatch is called for groups as well.

    The plugin asks the job for its rule to report them, which a group does not have: the job was neither submitted nor
    failed.
    """

    def submit(executor: "RemoteExecutor", job: "JobExecutorInterface") -> None:
        try:
            run_job(executor, job)
        except Exception as error:
            from snakemake_executor_plugin_slurm import SubmittedJobInfo

            executor._report_job_error_threadsafe(SubmittedJobInfo(job), str(error.__context__ or error))

    return submit


def explaining(report: Callable[..., None]) -> Callable[..., None]:
    """The plugin's report of a failed job, changed to say why for groups as well, and to remember refusals."""

    def explained(
        executor: "RemoteExecutor", job_info: "SubmittedJobInfo", msg: str | None = None, **context: Any
    ) -> None:
        if msg:
            found = SBATCH_WORDS.search(msg)
            reason = " ".join((found[1] if found else msg).split())
            if job_info.external_jobid is None:
                REFUSALS[reason] += 1
            if job_info.job.is_group():
                executor.logger.error(f"{job_info.job.groupid}: {reason}")
        report(executor, job_info, msg=msg, **context)

    return explained


def refusals() -> list[str]:
    """The reasons why jobs could not be submitted, one per line, the most frequent first."""
    return [f"not submitted to Slurm ({count} x): {reason}" for reason, count in REFUSALS.most_common(10)]


def check_memory(cluster: dict[str, str], command: str, seconds: int) -> None:
    """Raise UserError if finished jobs are forgotten before they are queried, every `seconds` at first.

    `cluster` are Slurm's own settings, `command` the profile's slurm-status-command.
    """
    if cluster.get("AccountingStorageType") not in WITHOUT_ACCOUNTS:
        return  # a database remembers, and the plugin asks it when squeue is not enough
    if command == "sacct":
        what = "is sacct, but this cluster has no accounting (AccountingStorageType is none)"
        raise UserError(Problem(PROFILE, "slurm-status-command", what, "set it to squeue"))
    found = re.match(r"\d+", cluster.get("MinJobAge", ""))
    if found and 0 < int(found[0]) < 3 * seconds:
        what = f"is {seconds}, but this cluster has no accounting and forgets jobs after {found[0]} s (MinJobAge)"
        fix = f"set it to {max(1, int(found[0]) // 3)}: at most a third of MinJobAge"
        raise UserError(Problem(PROFILE, SECONDS_KEY, what, fix))


def _cluster_settings() -> dict[str, str]:
    """The cluster's settings from `scontrol`; empty if it gives none."""
    try:
        done = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, errors="replace", timeout=ASK_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(SETTING.findall(done.stdout))


def telling(query: Callable[..., Awaitable[Answer]]) -> Callable[..., Awaitable[Answer]]:
    """The plugin's query, changed to find jobs whatever their names, and to log unusual reasons why they wait.

    For some of these reasons, jobs wait for ever.
    """
    told = set(QUEUED)

    async def asked(command: str, logger: Logger) -> Answer:
        run, of_all = of_user(command)
        states, seconds = await query(of_all, logger)
        if "PENDING" in (states or {}).values():
            answers, _ = await query(ASK_WHY, logger)
            waiting = [answer.partition(" ") for answer in (answers or {}).values()]
            for reason, count in Counter(reason for name, _, reason in waiting if is_of(run, name)).items():
                if reason not in told:
                    told.add(reason)
                    logger.warning(f"in Slurm's queue ({count} x): {reason}; squeue --me --long shows them")
        return states, seconds

    return asked


def corrected(query: Callable[..., Awaitable[Answer]]) -> Callable[..., Awaitable[Answer]]:
    """The plugin's query, with answers that treat preempted and forgotten jobs as finished."""
    seen: dict[str, str] = {}

    async def asked(*arguments: Any) -> Answer:
        states, seconds = await query(*arguments)
        if states is None:
            return None, seconds
        now = {job: state.partition(" ")[0] for job, state in states.items()}  # sacct says `CANCELLED by 1000`
        now |= {job: UNKNOWN for job in seen if job not in states}
        told = {job: _meaning(state, seen.get(job)) for job, state in now.items()}
        seen.clear()
        seen.update(now)
        return {job: state for job, state in told.items() if state}, seconds

    return asked


def _meaning(state: str, before: str | None) -> str | None:
    """The meaning of a state for the plugin, given the previous one; None keeps it waiting."""
    match state:
        case "PREEMPTED" if before == state:
            return LOST  # a job that restarts would be pending by now
        case "UNKNOWN" if before != state:
            return None
    return state
