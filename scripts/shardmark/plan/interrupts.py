"""What an interrupted run leaves on a cluster: Snakemake's executors cancel only part of their jobs, and late.

They cancel what they hold as active, which is nothing while they ask after their jobs: for many, that is most of the
time. Jobs that wait in the Slurm plugin's queue to be submitted are submitted all the same, after the others are
cancelled, while Python waits for its threads. A terminal interrupts all processes of a run: an `sbatch` too, whose job
nobody then knows, and at the second Ctrl-C `scancel`. And a run ends when the pause between two questions after its
jobs does, which is up to three minutes long, so that there is a second Ctrl-C.
"""

import asyncio
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from types import ModuleType, SimpleNamespace
from typing import Any

CANCEL_SECONDS = 60
"For `scancel`, which takes as long as a busy scheduler does."
LOOK_SECONDS = 0.5
"How often a pause looks whether the run is over."


def cancels_all(executor: type[Any]) -> None:
    """Have a class of remote executors cancel each job that was submitted and has not ended, whoever interrupts it."""
    names = ("report_job_submission", "report_job_success", "report_job_error", "cancel_jobs", "cancel", "run_job")
    submitted, succeeded, failed, cancel_jobs, cancel, run_job = (getattr(executor, name) for name in names)

    def report_job_submission(self: Any, job_info: Any, register_job: bool = True) -> None:
        _running(self)[id(job_info)] = job_info
        submitted(self, job_info, register_job=register_job)

    def report_job_success(self: Any, job_info: Any) -> None:
        _running(self).pop(id(job_info), None)
        succeeded(self, job_info)

    def report_job_error(self: Any, job_info: Any, msg: str | None = None, **context: Any) -> None:
        _running(self).pop(id(job_info), None)
        failed(self, job_info, msg=msg, **context)

    def cancel_all(self: Any, active_jobs: list[Any]) -> None:
        cancel_jobs(self, list((_running(self) | {id(job): job for job in active_jobs}).values()))

    def cancel_undisturbed(self: Any) -> None:
        with suppress(ValueError):  # not in the main thread, which alone is interrupted
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # for good: what is left takes seconds
        cancel(self)

    mended = (report_job_submission, report_job_success, report_job_error, cancel_all, cancel_undisturbed)
    for name, function in zip(names, (*mended, finished_first(run_job)), strict=True):
        setattr(executor, name, function)


def ends_soon(executor: type[Any]) -> None:
    """Have a class of remote executors end in the pause between two questions after its jobs.

    The pause may be the plugin's first, so this must be done before there is an executor.
    """
    sleep = executor.sleep

    async def sleep_until_over(self: Any) -> None:
        pause = asyncio.ensure_future(sleep(self))
        while self.wait and not pause.done():
            await asyncio.wait([pause], timeout=LOOK_SECONDS)
        pause.cancel()

    executor.sleep = sleep_until_over


def out_of_reach(module: ModuleType) -> None:
    """Have a module start processes in sessions of their own, where no Ctrl-C in a terminal reaches them."""
    own = SimpleNamespace(**vars(subprocess))
    for name in ("Popen", "run", "call", "check_call", "check_output"):
        setattr(own, name, partial(getattr(subprocess, name), start_new_session=True))
    module.__dict__["subprocess"] = own


def terminates(scheduler: type[Any]) -> None:
    """Have Snakemake's scheduler take note of SIGTERM in a thread of its own.

    Its handler waits for a lock that the code it interrupts may hold: some of the jobs that `scancel` ends hung then.
    """
    handler = scheduler.exit_gracefully

    def exit_gracefully(self: Any, *signal_and_frame: Any) -> None:
        threading.Thread(target=handler, args=(self, *signal_and_frame), daemon=True).start()

    scheduler.exit_gracefully = exit_gracefully


def submits_none_afterwards(executor: type[Any]) -> None:
    """Have the Slurm plugin's executor, which submits in threads, give up what it has not begun to submit.

    What it has submitted is cancelled by the name that all jobs of a run have: also what it has not heard of yet, and
    without complaints about jobs that Slurm has forgotten.
    """
    cancel = executor.cancel

    def cancel_after_submissions(self: Any) -> None:
        self._job_submission_executor.shutdown(wait=True, cancel_futures=True)
        cancel(self)

    def cancel_jobs(self: Any, _: list[Any]) -> None:
        everywhere = ["--clusters=all"] if self._submitted_job_clusters else []
        words = ["scancel", f"--name={self.run_uuid}", *everywhere]
        if why := _failure(words):
            self.logger.error(f"jobs of this run may go on: {why}; call again: {' '.join(words)}")

    executor.cancel, executor.cancel_jobs = cancel_after_submissions, cancel_jobs


def _failure(words: list[str]) -> str:
    """Why a command has failed; empty if it has not."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=CANCEL_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return " ".join(done.stderr.split()) or f"status {done.returncode}" if done.returncode else ""


def finished_first(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that an interrupt does not stop in the middle, but at its end: it may be submitting a job."""

    @wraps(function)
    def called(*arguments: Any, **more: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return function(*arguments, **more)  # no interrupt comes here
        came = threading.Event()
        handler = signal.signal(signal.SIGINT, lambda *_: came.set())
        try:
            return function(*arguments, **more)
        finally:
            signal.signal(signal.SIGINT, handler)
            if came.is_set():
                signal.raise_signal(signal.SIGINT)

    return called


def _running(executor: Any) -> dict[int, Any]:
    """The jobs of an executor that are not known to have ended, by identity."""
    found: dict[int, Any] = executor.__dict__.setdefault("shardmark_running", {})
    return found
