"""What Slurm's accounting says of jobs, and what a report makes of it."""

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shardmark import layout
from shardmark.files import read_sealed
from shardmark.report.facts import jobs_used
from shardmark.workflow import accounting
from shardmark.workflow.accounting import Accounts, accounted

MODEL = "tiny@0123456789abcdef"
ANSWER = """\
7|COMPLETED|100|4|06:40.000||8000M|1
7.batch|COMPLETED|100|4|00:01.000|3000K|8000M|1
7.0|COMPLETED|100|4|06:39.000|6G||1
8|CANCELLED by 1000|50|2|00:10.500||2Gc|1
8.batch|CANCELLED|50|2|00:10.500|512000K||1
9|COMPLETED|10|1|00:01.000||1000M|1
10|RUNNING|5|1|00:00.000||1000M|1
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The words with which a stand-in for sacct was called, a line for each call; it says what `answer` does."""
    program, calls = tmp_path / "bin/sacct", tmp_path / "calls"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\ncat {tmp_path}/answer\n')
    program.chmod(0o755)
    (tmp_path / "answer").write_text(ANSWER)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(accounting, "PAUSE_SECONDS", 0.0)
    return calls


def job(rule: str, model: str = MODEL) -> Any:
    return SimpleNamespace(rule=SimpleNamespace(name=rule), wildcards=SimpleNamespace(model=model))


def accounts(folder: Path) -> Accounts:
    """Accounts of a run that has submitted jobs: two that infer, one of them a group, two that score, one for two."""
    found = Accounts(folder)
    submit = found.noting(lambda executor, info, register_job: None)
    jobs = {"7": SimpleNamespace(jobs=[job("infer"), job("score")]), "8": job("infer"), "9": job("score")}
    jobs |= {"11": SimpleNamespace(jobs=[job("score"), job("score", "other@0123456789abcdef")])}
    for number, one in jobs.items():
        submit(None, SimpleNamespace(job=one, external_jobid=number))
    return found


def told(found: Accounts, states: dict[str, str] | None) -> None:
    async def query(command: str, logger: Any) -> Any:
        return states, 0.1

    assert asyncio.run(found.looking_up(query)("squeue", logging.getLogger())) == (states, 0.1)


def test_jobs_are_looked_up_once_they_have_ended_and_each_once(asked: Path, tmp_path: Path) -> None:
    found = accounts(tmp_path)
    told(found, None)
    told(found, {"7": "RUNNING", "8": "PREEMPTED", "9": "PENDING", "11": "COMPLETED"})
    assert not asked.exists()
    told(found, {"7": "COMPLETED", "8": "RUNNING"})
    told(found, {"7": "COMPLETED", "8": "CANCELLED", "9": "COMPLETED"})
    assert [line.rpartition("--jobs=")[2] for line in asked.read_text().splitlines()] == ["7", "8,9"]
    jobs = read_sealed(layout.SLURM_JOBS.file(tmp_path, model=MODEL))["jobs"]
    assert jobs == {
        "7": {"infers": True, "state": "COMPLETED", "seconds": 100, "cpus": 4, "cpu_seconds": 400.0}
        | {"memory": 6144.0, "memory_asked": 8000.0},
        "8": {"infers": True, "state": "CANCELLED", "seconds": 50, "cpus": 2, "cpu_seconds": 10.5}
        | {"memory": 500.0, "memory_asked": 4096.0},
        "9": {"infers": False, "state": "COMPLETED", "seconds": 10, "cpus": 1, "cpu_seconds": 1.0}
        | {"memory": None, "memory_asked": 1000.0},
    }


def test_a_report_says_what_a_models_jobs_used(asked: Path, tmp_path: Path) -> None:
    told(accounts(tmp_path), {"7": "COMPLETED", "8": "CANCELLED", "9": "COMPLETED"})
    assert jobs_used(layout.SLURM_JOBS.found(tmp_path)) == [
        "tiny, inference: 2 jobs, 2 min 30 s in all; 82% of the time of 2 to 4 CPUs; "
        "at most 77% of the memory asked for (6,144 of 8,000 MB); 1 x CANCELLED",
        "tiny, scoring only: 1 job, 10.0 s in all; 10% of the time of 1 CPU",
    ]


def test_an_accounting_that_is_late_is_asked_again_and_then_left_alone(asked: Path, tmp_path: Path) -> None:
    (tmp_path / "answer").write_text(ANSWER.replace("9|COMPLETED", "9|RUNNING"))
    found = accounts(tmp_path)
    for _ in range(accounting.VAIN + 1):
        told(found, {"9": "COMPLETED"})
    assert len(asked.read_text().splitlines()) == accounting.VAIN * accounting.TRIES
    assert not layout.SLURM_JOBS.found(tmp_path)


def test_a_job_that_the_accounting_knew_late_is_written_down_with_the_next(asked: Path, tmp_path: Path) -> None:
    (tmp_path / "answer").write_text(ANSWER.replace("9|COMPLETED", "9|RUNNING"))
    found = accounts(tmp_path)
    told(found, {"9": "COMPLETED"})
    (tmp_path / "answer").write_text(ANSWER)
    told(found, {"7": "COMPLETED"})
    assert len(layout.SLURM_JOBS.found(tmp_path)) == 1
    assert found.jobs.keys() == {"8"}


@pytest.mark.parametrize(
    "program", ["#!/bin/sh\necho no accounting >&2\nexit 1\n", "#!/bin/sh\necho '7|COMPLETED'\n", None]
)
def test_without_an_answer_there_is_nothing_to_report(asked: Path, tmp_path: Path, program: str | None) -> None:
    sacct = tmp_path / "bin/sacct"
    sacct.write_text(program) if program else sacct.unlink()
    assert accounted({"7": True}) == {}
