"""Which jobs of a cluster are cancelled when a run is interrupted, and how long that takes."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from shardmark.workflow.interrupts import (
    cancels_all,
    ends_soon,
    ends_with_terminal,
    out_of_reach,
    submits_none_afterwards,
    terminates,
)


@dataclass(eq=False)
class Job:
    """What an executor knows of a job that it has submitted; each is another."""

    name: str


class Executor:
    """Of Snakemake's remote executors what counts here: jobs leave `active` while they are asked after."""

    def __init__(self) -> None:
        self.active: list[Job] = []
        self.cancelled: list[str] = []
        self.wait = True

    def run_job(self, job: Callable[[], object]) -> None:
        job()

    def report_job_submission(self, job_info: Job, register_job: bool = True) -> None:
        self.active.append(job_info)

    def report_job_success(self, job_info: Job) -> None: ...

    def report_job_error(self, job_info: Job, msg: str | None = None, **context: Any) -> None: ...

    def cancel(self) -> None:
        self.cancel_jobs(self.active)

    def cancel_jobs(self, active_jobs: list[Job]) -> None:
        self.cancelled += [job.name for job in active_jobs]

    async def sleep(self) -> None:
        await asyncio.sleep(60)


class ThreadedExecutor(Executor):
    """One that submits in a thread, as Snakemake's plugin for Slurm does."""

    run_uuid = "this-run"

    def __init__(self) -> None:
        super().__init__()
        self._job_submission_executor = ThreadPoolExecutor(1)
        self._submitted_job_clusters: set[str] = set()
        self.logger = self
        self.errors: list[str] = []

    def submit(self, job: Callable[[], object]) -> None:
        self._job_submission_executor.submit(self.run_job, job)

    def error(self, message: str) -> None:
        self.errors.append(message)


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def executor() -> Executor:
    """An executor of a class of its own."""
    kind = type("Mended", (Executor,), {})
    cancels_all(kind)
    made: Executor = kind()
    return made


@pytest.fixture
def threaded() -> ThreadedExecutor:
    """One for Slurm, of a class of its own."""
    kind = type("Mended", (ThreadedExecutor,), {})
    submits_none_afterwards(kind)
    cancels_all(kind)
    made: ThreadedExecutor = kind()
    return made


@pytest.fixture
def scancel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a stand-in for `scancel` on PATH that notes how it was called, then does as a script says.

    One for `squeue` lists two jobs of the run, two that only look like it, and a cluster's heading.
    """

    def install(script: str = "") -> Path:
        listed = "CLUSTER: other\n1 m:d:infer:this\n2 this-run\n3 m:d:infer:that\n4 this"
        (tmp_path / "squeue").write_text(f"#!/bin/sh\necho '{listed}'\n")
        (tmp_path / "squeue").chmod(0o755)
        (tmp_path / "scancel").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{script}\n')
        (tmp_path / "scancel").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return tmp_path / "calls"

    return install


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


def test_a_second_interrupt_disturbs_no_cancelling(executor: Executor) -> None:
    executor.report_job_submission(Job("a"))
    executor.cancel()
    signal.raise_signal(signal.SIGINT)
    assert executor.cancelled == ["a"]


def test_a_submission_is_finished_before_the_run_is_interrupted(executor: Executor) -> None:
    def submit() -> None:
        signal.raise_signal(signal.SIGINT)
        executor.report_job_submission(Job("a"))

    with pytest.raises(KeyboardInterrupt):
        executor.run_job(submit)
    executor.cancel()
    assert executor.cancelled == ["a"]


def test_a_submission_that_fails_and_is_interrupted_leaves_interrupts_as_they_were(executor: Executor) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        executor.run_job(lambda: 1 / 0)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_pause_between_two_questions_ends_with_the_run() -> None:
    kind = type("Mended", (Executor,), {})
    ends_soon(kind)
    executor = kind()
    threading.Timer(0.1, lambda: setattr(executor, "wait", False)).start()
    begun = time.monotonic()
    asyncio.run(executor.sleep())
    assert 0.1 <= time.monotonic() - begun < 30


def test_a_run_that_is_terminated_while_it_holds_its_lock_goes_on_to_its_end() -> None:
    class Scheduler:
        lock, noted = threading.Lock(), threading.Event()

        def exit_gracefully(self, *_: Any) -> None:
            with self.lock:
                self.noted.set()

    terminates(Scheduler)
    with Scheduler.lock:
        Scheduler().exit_gracefully(signal.SIGTERM, None)
    assert Scheduler.noted.wait(10)


@pytest.mark.parametrize("nohup", [False, True])
def test_a_closed_terminal_is_an_interrupt_unless_it_is_to_be_ignored(
    monkeypatch: pytest.MonkeyPatch, nohup: bool
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
    try:
        ends_with_terminal()
        with nullcontext() if nohup else pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_no_interrupt_of_a_terminal_reaches_what_a_plugin_starts() -> None:
    module = ModuleType("plugin")
    module.subprocess = subprocess
    out_of_reach(module)
    words = [sys.executable, "-c", "import os; print(os.getpgid(0))"]
    for group in (
        module.subprocess.check_output(words, text=True),
        module.subprocess.run(words, capture_output=True, text=True, check=True).stdout,
        module.subprocess.Popen(words, text=True, stdout=module.subprocess.PIPE).communicate()[0],
    ):
        assert int(group) != os.getpgid(0)
    with pytest.raises(subprocess.CalledProcessError):
        module.subprocess.check_call("false")


def test_what_waits_to_be_submitted_is_given_up_and_the_run_cancelled_by_its_name_after_what_has_begun(
    threaded: ThreadedExecutor, scancel: Callable[[str], Path]
) -> None:
    calls = scancel("")
    begun, interrupted, submitted = threading.Event(), threading.Event(), []
    threaded.submit(lambda: (begun.set(), interrupted.wait(10), submitted.append(calls.exists())))
    threaded.submit(lambda: submitted.append("waiting"))
    begun.wait(10)
    threading.Timer(0.1, interrupted.set).start()
    threaded.cancel()
    assert submitted == [False]
    assert calls.read_text() == "--quiet 1 2\n"
    assert not threaded.errors


def test_jobs_that_cannot_be_cancelled_are_no_end_to_the_rest_but_said(
    threaded: ThreadedExecutor, scancel: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scancel("echo 'no controller' >&2; exit 1")
    threaded._submitted_job_clusters.add("other")
    threaded.cancel()
    scancel("exec sleep 60")
    monkeypatch.setattr("shardmark.workflow.interrupts.CANCEL_SECONDS", 0.1)
    threaded.cancel()
    refused, hung = threaded.errors
    again = "; try again: squeue --me --noheader --format='%i %j' | grep this | cut -d' ' -f1 | xargs scancel"
    assert refused == f"jobs of this run may continue: no controller{again}"
    assert f"timed out after 0.1 seconds{again}" in hung
