"""The parts of Snakemake that Shardmark replaces: one table, checked before anything is replaced.

None of them is a public promise of Snakemake. They were read in snakemake 9.27.1, snakemake-interface-executor-plugins
9.4.0 and snakemake-executor-plugin-slurm 2.8.0. A part that is missing, or has other parameters than in those versions,
is not replaced, because the replacement was not written for it. The run then reports which feature is missing.
"""

import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

ANY: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


class Part(NamedTuple):
    """A function of a class or module of Snakemake."""

    name: str
    parameters: tuple[str, ...]
    "Its parameters in the versions above; `*` and `**` stand for any others."
    without: str
    "The consequence for a run if it cannot be replaced."


CANCELLING = "Ctrl-C may leave jobs on the cluster whose status was being queried: look for them afterwards"
REASONS = "the reason why Slurm refused a job may not be shown: it is in Snakemake's log"

INCOMPLETE = Part("check_incomplete", ("self",), "after a kill, --ignore-incomplete may be needed")
TERMINATION = Part("exit_gracefully", ("self", "*"), "a run that is terminated (SIGTERM) may hang")
REEVALUATION = Part("_schedule_reevalutation", ("self", "delay"), "a run may end a second late")
LATER = "a run starts a tenth of a second later"
OPEN = Part("_open", ("self", "source_file", "mode", "encoding"), LATER)
PARSE = Part("parse_uri", ("path_or_uri",), LATER)
PARAMETERS = Part("get_function_params", ("func",), "each job takes a millisecond longer to plan")
SUBMITTED = Part("report_job_submission", ("self", "job_info", "register_job"), CANCELLING)
SUCCEEDED = Part("report_job_success", ("self", "job_info"), CANCELLING)
FAILED = Part("report_job_error", ("self", "job_info", "msg", "**"), CANCELLING)
CANCEL_JOBS = Part("cancel_jobs", ("self", "active_jobs"), CANCELLING)
CANCEL = Part("cancel", ("self",), CANCELLING)
RUN_JOB = Part("run_job", ("self", "job"), CANCELLING)
SLEEP = Part("sleep", ("self",), "after the last job, a run may take minutes to end")
SLURM_QUERY = Part(
    "query_job_status", ("command", "logger"), "the run may wait for preempted and forgotten jobs forever"
)
SLURM_SUBMITTED = Part(SUBMITTED.name, SUBMITTED.parameters, "what jobs used of what they asked for is not reported")
SLURM_SUBMIT_COMMAND = Part(
    "get_submit_command",
    ("job", "params", "settings", "failed_nodes", "array_job"),
    "jobs in Slurm's queue have the run's ID as their names",
)
SLURM_RUN_JOB = Part("run_job", ("self", "job"), REASONS)
SLURM_FAILED = Part("report_job_error", ("self", "job_info", "msg", "**"), REASONS)

SUBPROCESS = Part("subprocess", (), "Ctrl-C in a terminal also interrupts sbatch and scancel: look for jobs afterwards")
"The module of that name, as imported by the executor's module."

_unlike: dict[str, Part] = {}


def replace(
    owner: type[Any] | ModuleType, part: Part, make: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Replace a part of `owner`, a class or module, by `make`'s result for it; or note that it is not as expected."""
    found = getattr(owner, part.name, None)
    if callable(found) and _parameters(found) == part.parameters:
        setattr(owner, part.name, functools.update_wrapper(make(found), found))
    else:
        note(owner, part)


def note(owner: type[Any] | ModuleType, part: Part) -> None:
    """Note that a part of `owner` is not as expected."""
    _unlike[f"{owner.__name__}.{part.name}"] = part


def _parameters(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """The names of a function's parameters, with `*` and `**` for any others."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return None
    return tuple(ANY.get(parameter.kind, parameter.name) for parameter in parameters)


def unlike() -> list[str]:
    """Lines for the parts that were not as expected, with the consequences for the run."""
    unknown = "differs from the versions that Shardmark knows"
    return [f"Snakemake's {name} {unknown}: {part.without}" for name, part in _unlike.items()]
