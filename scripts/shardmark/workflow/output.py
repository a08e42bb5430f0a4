"""The terminal output of a run: its plan, progress, failures and the report's place, and not nine lines per job.

Snakemake's log file (.snakemake/log) has everything, and so has the terminal with --verbose or --printshellcmds.
"""

import logging
import re
from typing import TYPE_CHECKING

from snakemake_interface_logger_plugins.common import LogEvent

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

TERMINAL = "DefaultStreamHandler"
"Snakemake's name for the handler that writes to the terminal."
OF_JOBS = {
    LogEvent.RUN_INFO,
    LogEvent.RESOURCES_INFO,
    LogEvent.JOB_INFO,
    LogEvent.JOB_STARTED,
    LogEvent.JOB_FINISHED,
    LogEvent.GROUP_INFO,
    LogEvent.SHELLCMD,
    LogEvent.PROGRESS,
}
"The events that occur for each job, or repeat the plan's output."
NOISE = re.compile(
    r"Select jobs to execute|Execute \d+ jobs|Building DAG|Using shell|Assuming unrestricted|Rules claiming|"
    r"Conda environments: ignored|Singularity containers: ignored|Group jobs: inactive|Provided |Elapsed time|"
    r"Job rate limit|Processed \d+ potential"
)
"Messages without an event that occur for each job, or say nothing about this run."


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether a record of Snakemake's log should appear on the terminal."""
    if record.levelno >= logging.WARNING:
        return True
    return getattr(record, "event", None) not in OF_JOBS and not NOISE.match(str(record.msg))


def calm(logger: logging.Logger, workflow: "Workflow") -> None:
    """Filter the terminal's output, unless a dry run or more output was asked for."""
    asked = workflow.output_settings
    if asked is None or asked.verbose or asked.printshellcmds or asked.dryrun or asked.debug_dag:
        return
    for handler in logger.handlers:
        if handler.name == TERMINAL:
            handler.addFilter(is_worth_a_line)
