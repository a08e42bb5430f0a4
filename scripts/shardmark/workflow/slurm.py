"""What Snakemake's Slurm plugin leaves open: jobs that it would wait for for ever, and errors that nobody is shown.

It takes a preempted job for one that Slurm will start again, which partitions that cancel what they preempt never do;
a job that the scheduler has forgotten for one that it has not heard of yet; and one that `sacct` says is cancelled, and
by whom, for one that runs. The first two are told from what the scheduler says twice. A group of jobs that it cannot
submit, as for an account that the user has not, it forgets; and Snakemake does not show why a group failed. A job that
its partition will never start, as most clusters accept it, waits without a word.

The plugin's functions that ask, submit and report are wrapped while a run lasts.
"""

import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from logging import Logger
from typing import TYPE_CHECKING, Any

from shardmark.errors import Problem, UserError
from shardmark.workflow import patches
from shardmark.workflow.interrupts import submits_none_afterwards

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
"Resources of Snakemake's Slurm executor -> keys of a model's `slurm`."
PROFILE = "profiles/slurm/config.yaml"
SECONDS_KEY = "slurm-init-seconds-before-status-checks"
LOST, UNKNOWN = "FAILED", "UNKNOWN"
"What the plugin is told: submit it again; or look whether its files are there, and submit it again if not."
ASK_SECONDS = 60
REFUSALS: Counter[str] = Counter()
"Why jobs of this run could not be submitted, and how often."
SBATCH_WORDS = re.compile(r"The error message was '(.*?)'\.\n", re.DOTALL)
"What sbatch said, in what the plugin makes of it: the rest is a command line of thousands of characters."
ASK_WHY = "squeue --noheader --states=PENDING '--format=%i|%r'"
QUEUED = ("None", "Resources", "Priority", "BeginTime")
"Why jobs wait that will run by and by."
SETTING = re.compile(r"^(\w+)\s*=\s*(.*?)\s*$", re.MULTILINE)

Answer = tuple[dict[str, str] | None, float | None]
"What the plugin's query returns: the state of each job, or None if the scheduler did not answer; and seconds."


def prepare_slurm(workflow: "Workflow") -> None:
    """Check how a run on Slurm asks after its jobs, and correct it; called when the run starts."""
    plugin = workflow.executor_plugin
    if plugin is None or plugin.name != "slurm":
        return
    check_commands()
    settings = workflow.executor_settings
    check_memory(_cluster_settings(), settings.status_command, settings.init_seconds_before_status_checks)
    import snakemake_executor_plugin_slurm as module

    patches.replace(module, patches.SLURM_QUERY, lambda query: corrected(telling(query)))
    patches.replace(module.Executor, patches.SLURM_RUN_JOB, submitting)
    patches.replace(module.Executor, patches.SLURM_FAILED, explaining)
    submits_none_afterwards(module.Executor)


def check_commands() -> None:
    """Raise UserError where there is no Slurm to submit to."""
    if shutil.which("sbatch") is None:
        what = "is slurm, but there is no sbatch on this machine"
        raise UserError(Problem(PROFILE, "executor", what, "call it on a login node, or use --profile local"))


def submitting(run_job: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """The plugin's submission of a job, which reports what goes wrong before sbatch is called for groups as well.

    It asks the job for its rule to say so, which a group has not: the job was neither submitted nor failed.
    """

    def submit(executor: "RemoteExecutor", job: "JobExecutorInterface") -> None:
        try:
            run_job(executor, job)
        except Exception as error:
            from snakemake_executor_plugin_slurm import SubmittedJobInfo

            executor._report_job_error_threadsafe(SubmittedJobInfo(job), str(error.__context__ or error))

    return submit


def explaining(report: Callable[..., None]) -> Callable[..., None]:
    """The plugin's report of a job that failed, which says why of groups as well, and remembers what was refused."""

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
    """Why jobs could not be submitted, a line for each reason, the most frequent first."""
    return [f"not submitted to Slurm ({count} x): {reason}" for reason, count in REFUSALS.most_common(10)]


def check_memory(cluster: dict[str, str], command: str, seconds: int) -> None:
    """Raise UserError if finished jobs are forgotten before they are asked after, every `seconds` at first.

    `cluster` are Slurm's own settings, `command` the profile's slurm-status-command.
    """
    if cluster.get("AccountingStorageType") not in ("accounting_storage/none", "(null)"):
        return  # a data base remembers, and the plugin asks it where squeue would not do
    if command == "sacct":
        what = "is sacct, but this cluster keeps no accounts (AccountingStorageType is none)"
        raise UserError(Problem(PROFILE, "slurm-status-command", what, "set it to squeue"))
    found = re.match(r"\d+", cluster.get("MinJobAge", ""))
    if found and 0 < int(found[0]) < 3 * seconds:
        what = f"is {seconds}, but this cluster keeps no accounts and forgets jobs after {found[0]} s (MinJobAge)"
        fix = f"set it to {max(1, int(found[0]) // 3)}: at most a third of MinJobAge"
        raise UserError(Problem(PROFILE, SECONDS_KEY, what, fix))


def _cluster_settings() -> dict[str, str]:
    """What `scontrol` tells of the cluster; empty if it does not."""
    try:
        done = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, errors="replace", timeout=ASK_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(SETTING.findall(done.stdout))


def telling(query: Callable[..., Awaitable[Answer]]) -> Callable[..., Awaitable[Answer]]:
    """The plugin's query, which says why jobs wait if it is not for others: for some reasons, they wait for ever."""
    told = set(QUEUED)

    async def asked(command: str, logger: Logger) -> Answer:
        states, seconds = await query(command, logger)
        if "PENDING" in (states or {}).values():
            words = shlex.split(command)
            run = words[words.index("--name") + 1]
            reasons, _ = await query(f"{ASK_WHY} --name {run}", logger)
            for reason, count in Counter((reasons or {}).values()).items():
                if reason not in told:
                    told.add(reason)
                    logger.warning(f"in Slurm's queue ({count} x): {reason}; squeue --name {run} shows them")
        return states, seconds

    return asked


def corrected(query: Callable[..., Awaitable[Answer]]) -> Callable[..., Awaitable[Answer]]:
    """The plugin's query, whose answers tell of preempted and forgotten jobs that they are over."""
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
    """What a state means for the plugin, given what it was the last time; None keeps it waiting."""
    match state:
        case "PREEMPTED" if before == state:
            return LOST  # one that starts again is pending by now
        case "UNKNOWN" if before != state:
            return None
    return state
