"""Names of jobs in Slurm's queue that say model and data sets, and how a run's jobs are found by them.

Snakemake's plugin gives all jobs of a run the same name, the "SLURM run ID", and asks after them by it. Here each name
only ends in the first part of that ID, so the plugin asks after all jobs of the user, and picks its own by their ids.
"""

import os
import shlex
from collections.abc import Callable
from typing import Any

SHOWN = 60
"The most characters of the names of a job's data sets."
OF_USER = f"--user={os.getuid()}"
LIST = ("squeue", OF_USER, "--noheader", "--format=%i %j")
"Lists the user's jobs that have not ended, each with its name."


def naming(submit_command: Callable[..., str]) -> Callable[..., str]:
    """The plugin's making of a command line for sbatch, changed to name the job; arrays keep the run's name."""

    def command(
        job: Any, params: dict[str, Any], settings: Any = None, failed_nodes: Any = None, array_job: bool = False
    ) -> str:
        named = params if array_job else params | {"run_uuid": f"{described(job)}:{_short(params['run_uuid'])}"}
        return submit_command(job, named, settings=settings, failed_nodes=failed_nodes, array_job=array_job)

    return command


def described(job: Any) -> str:
    """What a job, or a group of jobs, does: `MODEL:DATASET+DATASET:RULE`, as far as it has a model and data sets."""
    parts = sorted(getattr(job, "jobs", None) or [job], key=lambda part: part.rule.name)
    models = dict.fromkeys(getattr(part.wildcards, "model", "").partition("@")[0] for part in parts)
    datasets = "+".join(dict.fromkeys(getattr(part.wildcards, "dataset", "") for part in parts))
    shown = datasets if len(datasets) <= SHOWN else f"{datasets[:SHOWN]}..."
    return ":".join(filter(None, ("+".join(models), shown, parts[0].rule.name)))


def of_user(query: str) -> tuple[str, str]:
    """The name of a run in the plugin's command that asks after its jobs, and the command for all jobs of its user.

    A command of another form, of a newer plugin, is returned as it is.
    """
    words = shlex.split(query)
    if "--name" not in words:
        return "", query
    place = words.index("--name")
    run = words[place + 1]
    words[place : place + 2] = [OF_USER]
    return run, shlex.join(words)


def is_of(run: str, name: str) -> bool:
    """Whether a job's name is one of this run's."""
    return run != "" and (name == run or name.endswith(f":{_short(run)}"))


def cancelling(run: str) -> str:
    """The command that cancels all jobs of a run."""
    return f"squeue --me --noheader --format='%i %j' | grep {_short(run)} | cut -d' ' -f1 | xargs scancel"


def _short(run: str) -> str:
    """The part of a run's name that the names of its jobs end in; before it there may be --slurm-jobname-prefix."""
    return run.rpartition("_")[2].partition("-")[0]
