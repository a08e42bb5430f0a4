"""Which jobs of a cluster are cancelled when a run is interrupted."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from shardmark.plan.interrupts import cancels_all, submits_none_afterwards


@dataclass(eq=False)
class Job:
    """What an executor knows of a job that it has submitted; each is another."""

    name: str


class Executor:
    """Of Snakemake's remote executors what counts here: jobs leave `active` while they are asked after."""

    def __init__(self) -> None:
        self.active: list[Job] = []
        self.cancelled: list[str] = []

    def report_job_submission(self, job_info: Job, register_job: bool = True) -> None:
        self.active.append(job_info)

    def report_job_success(self, job_info: Job) -> None: ...

    def report_job_error(self, job_info: Job, msg: str | None = None, **context: Any) -> None: ...

    def cancel(self) -> None:
        self.cancel_jobs(self.active)

    def cancel_jobs(self, active_jobs: list[Job]) -> None:
        self.cancelled += [job.name for job in active_jobs]


class ThreadedExecutor(Executor):
    """One that submits in a thread, and reports it to a loop that no longer runs when it is interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self._job_submission_executor = ThreadPoolExecutor(1)

    def submit(self, name: str, sbatch: Callable[[], object]) -> None:
        self._job_submission_executor.submit(self._run, name, sbatch)

    def _run(self, name: str, sbatch: Callable[[], object]) -> None:
        sbatch()
        self._report_job_submission_threadsafe(Job(name))

    def _report_job_submission_threadsafe(self, job_info: Job) -> None: ...


@pytest.fixture
def executor() -> Executor:
    """An executor of a class of its own."""
    kind = type("Mended", (Executor,), {})
    cancels_all(kind)
    made: Executor = kind()
    return made


def test_jobs_that_are_being_asked_after_are_cancelled(executor: Executor) -> None:
    for name in "abc":
        executor.report_job_submission(Job(name))
    asked_after, executor.active = executor.active, []
    executor.report_job_success(asked_after[0])
    executor.cancel()
    assert executor.cancelled == ["b", "c"]


def test_jobs_that_have_ended_are_not_cancelled_and_none_twice(executor: Executor) -> None:
    jobs = [Job("equal"), Job("equal"), Job("other")]
    for job in jobs:
        executor.report_job_submission(job)
    executor.report_job_error(jobs[1], msg="why", aux_logs=["x"])
    executor.active.remove(jobs[1])
    executor.cancel()
    assert executor.cancelled == ["equal", "other"]


def test_executors_know_their_own_jobs_only(executor: Executor) -> None:
    executor.report_job_submission(Job("a"))
    other = type(executor)()
    other.cancel()
    assert other.cancelled == []


def test_what_waits_to_be_submitted_is_given_up_and_what_is_submitted_meanwhile_cancelled() -> None:
    kind = type("Mended", (ThreadedExecutor,), {})
    cancels_all(kind)
    submits_none_afterwards(kind)
    executor: ThreadedExecutor = kind()
    begun, interrupted = threading.Event(), threading.Event()
    executor.submit("begun", lambda: (begun.set(), interrupted.wait(10)))
    executor.submit("waiting", interrupted.wait)
    begun.wait(10)
    threading.Timer(0.1, interrupted.set).start()
    executor.cancel()
    assert executor.cancelled == ["begun"]
