"""What a run prints on a terminal: what is worth a line."""

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from shardmark.workflow.output import OF_JOBS, TERMINAL, Brief, calm, is_worth_a_line, outlives_reader


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
        record("Select jobs to execute...", logging.WARNING),
        record("progress: 1 of 2 shards"),
        record("Nothing to be done (all requested files are present and up to date)."),
        record("Complete log(s): x"),
        record("Job 4 has been submitted with SLURM jobid 7"),
    ],
)
def test_errors_warnings_progress_and_the_end_are(told: logging.LogRecord) -> None:
    assert is_worth_a_line(told)


def of_job(path: Path, **told: Any) -> logging.LogRecord:
    made = record("Error in rule infer", logging.ERROR, LogEvent.JOB_ERROR)
    made.__dict__ |= {"log": [str(path)], "indent": False} | told
    return made


def test_the_failure_of_a_step_is_a_line(tmp_path: Path) -> None:
    log = tmp_path / "logs/infer/m@1/d/2.log"
    log.parent.mkdir(parents=True)
    log.write_text(
        "2026-11-29 12:00:00,000 INFO root: begin\n2026-11-29 12:00:01,000 ERROR root: x.yaml: wrong\n    fix: it\n"
    )
    brief = Brief(logging.Formatter("all of %(message)s"))
    assert brief.format(of_job(log)) == f"failed: {log}: x.yaml: wrong"
    assert brief.format(of_job(log, log=[str(log), "slurm/7.log"])) == f"failed: {log}: x.yaml: wrong"
    group = record("Error in group m", logging.ERROR, LogEvent.GROUP_ERROR)
    group.__dict__ |= {"groupid": "m@1-0_d", "aux_logs": ["a.log"], "job_error_info": [{"log": [str(log)]}] * 9}
    assert brief.format(group) == "failed: m@1-0_d, see a.log"
    command = f"RuleException:\nCalledProcessError in file s.smk, line 3:\nCommand 'infer.py\n --log {log}' returned"
    assert not is_worth_a_line(record(command, logging.ERROR))


def test_what_is_unexplained_or_the_users_own_is_shown_as_snakemake_shows_it(tmp_path: Path) -> None:
    brief = Brief(logging.Formatter("all of %(message)s"))
    log = tmp_path / "logs/score/m@1/d@2.log"
    killed, shared = of_job(log), of_job(log, indent=True)
    assert brief.format(killed) == brief.format(of_job(tmp_path / "logs/mine.log")) == "all of Error in rule infer"
    assert is_worth_a_line(killed)
    assert not is_worth_a_line(shared), "its group's line says that the job failed"
    assert is_worth_a_line(
        record("RuleException:\nCalledProcessError in file mine, line 3:\nCommand 'x'", logging.ERROR)
    )


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


def test_a_run_goes_on_when_nobody_reads_its_output() -> None:
    class Raising(logging.StreamHandler[TextIO]):
        def handleError(self, record: logging.LogRecord) -> None:
            raise  # as Snakemake's does

    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        handler = Raising(stream)
        outlives_reader(handler)
        for _ in range(2):
            handler.emit(logging.makeLogRecord({"msg": "x" * 9999}))
