"""What a run prints on a terminal: what is worth a line."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from shardmark.workflow.output import OF_JOBS, TERMINAL, calm, is_worth_a_line


def record(message: str, level: int = logging.INFO, event: LogEvent | None = None) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    if event:
        made.event = event
    return made


@pytest.mark.parametrize("event", sorted(OF_JOBS))
def test_what_comes_with_each_job_is_not_worth_a_line(event: LogEvent) -> None:
    assert not is_worth_a_line(record("x", event=event))


@pytest.mark.parametrize("message", ["Select jobs to execute...", "Execute 2 jobs...", "Building DAG of jobs..."])
def test_nor_is_what_says_nothing_of_the_run(message: str) -> None:
    assert not is_worth_a_line(record(message))


@pytest.mark.parametrize(
    "told",
    [
        record("Error", logging.ERROR, LogEvent.JOB_ERROR),
        record("Error", logging.ERROR, LogEvent.GROUP_ERROR),
        record("Select jobs to execute...", logging.WARNING),
        record("progress: 1 of 2 shards"),
        record("Nothing to be done (all requested files are present and up to date)."),
        record("Complete log(s): x"),
        record("Job 4 has been submitted with SLURM jobid 7"),
    ],
)
def test_errors_warnings_progress_and_the_end_are(told: logging.LogRecord) -> None:
    assert is_worth_a_line(told)


@pytest.mark.parametrize("asked", ["verbose", "printshellcmds", "dryrun", "debug_dag", ""])
def test_all_is_shown_to_who_asks_for_it(asked: str) -> None:
    settings = dict.fromkeys(("verbose", "printshellcmds", "dryrun", "debug_dag"), False) | {asked: True}
    logger, handlers = logging.Logger("snakemake"), [logging.NullHandler(), logging.NullHandler()]
    handlers[0].name = TERMINAL
    for handler in handlers:
        logger.addHandler(handler)
    workflow: Any = SimpleNamespace(output_settings=SimpleNamespace(**settings))
    calm(logger, workflow)
    assert [len(handler.filters) for handler in handlers] == ([0, 0] if asked else [1, 0])
