"""The terminal output of a run: its plan, progress, failures and the report's place, and not nine lines per job.

Snakemake's log file (.snakemake/log) has everything, and so has the terminal with --verbose or --printshellcmds.
"""

import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from snakemake_interface_logger_plugins.common import LogEvent

from shardmark import layout
from shardmark.workflow.progress import last_words

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
OF_STEPS = re.compile(rf".*/({'|'.join(kind.path.partition('{')[0] for kind in layout.STEP_LOGS)}).+")
"A log of a step of a run, whose failure is summed up at the run's end."
ITS_COMMAND = re.compile(rf"RuleException:\nCalledProcessError in .*--log {OF_STEPS.pattern}", re.DOTALL)
"Snakemake's message that a step's command has failed, with the whole command."


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether a record of Snakemake's log should appear on the terminal."""
    if record.levelno >= logging.WARNING:
        return not ITS_COMMAND.match(str(record.msg)) and in_a_line(record) != ""
    return getattr(record, "event", None) not in OF_JOBS and not NOISE.match(str(record.msg))


class Brief(logging.Formatter):
    """Formats the failure of a step as one line, and all else as another formatter does."""

    def __init__(self, full: logging.Formatter | None) -> None:
        super().__init__()
        self._full = full or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return in_a_line(record) or self._full.format(record)


def in_a_line(record: logging.LogRecord) -> str | None:
    """The failure of a step, or of a cluster's job with several; None if it is of something else, or unexplained.

    Empty for a step that shared a job with one that failed.
    """
    told, event = record.__dict__, getattr(record, "event", None)
    parts = told["job_error_info"] if event == LogEvent.GROUP_ERROR else [told] if event == LogEvent.JOB_ERROR else []
    logs = [part["log"][0] for part in parts if part["log"]]  # the scheduler's own log may follow
    if not logs or not all(map(OF_STEPS.fullmatch, logs)):
        return None
    if event == LogEvent.GROUP_ERROR:
        return ", see ".join([f"failed: {told['groupid']}", *told["aux_logs"]])
    with suppress(OSError):
        words = last_words(Path(logs[0])).splitlines()
        if words and words[0].startswith("ERROR "):
            return f"failed: {logs[0]}: {words[0].partition(': ')[2]}"
    return "" if told["indent"] else None


def outlives_reader(handler: "logging.StreamHandler[TextIO]") -> None:
    """Let a handler drop what nobody reads, as after `| head` or a lost connection.

    Snakemake raises an error then: in a job's thread, so that the run would wait for this job forever.
    """
    emit = handler.emit

    def emit_or_drop(record: logging.LogRecord) -> None:
        try:
            emit(record)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), handler.stream.fileno())

    handler.emit = emit_or_drop  # type: ignore[method-assign]


def calm(logger: logging.Logger, workflow: "Workflow") -> None:
    """Filter the terminal's output, unless a dry run or more output was asked for."""
    for handler in logger.handlers:
        if handler.name == TERMINAL and isinstance(handler, logging.StreamHandler):
            outlives_reader(handler)
    asked = workflow.output_settings
    if asked is None or asked.verbose or asked.printshellcmds or asked.dryrun or asked.debug_dag:
        return
    for handler in logger.handlers:
        if handler.name == TERMINAL:
            handler.addFilter(is_worth_a_line)
            handler.setFormatter(Brief(handler.formatter))
