"""Leftovers of interrupted runs on a cluster: Snakemake's executors cancel only part of their jobs, and late.

They cancel the jobs that they hold as active, which is none while they ask for the jobs' states: with many jobs, most
of the time. Jobs that wait in the Slurm plugin's queue are still submitted after the others are cancelled, while Python
waits for its threads. A terminal interrupts all processes of a run: also an `sbatch`, whose job nobody then knows, and
at the second Ctrl-C `scancel`. And a run ends only after the pause between two queries for its jobs, which is up to
three minutes long, so that users press Ctrl-C a second time.
"""

import asyncio
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from shardmark.workflow import patches
from shardmark.workflow.job_names import LIST, cancelling, is_of

if TYPE_CHECKING:
    from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
    from snakemake_interface_executor_plugins.scheduler import JobSchedulerExecutorInterface

Function = Callable[..., Any]
CANCEL_SECONDS = 60
"Seconds for `squeue` and for `scancel`, which take as long as a busy scheduler does."
LOOK_SECONDS = 0.5
"Seconds between checks, during a pause, whether the run is over."


def cancels_all(executor: type[Any]) -> None:
    """Let a class of remote executors cancel every submitted job that has not ended, whoever interrupts it."""

    def noted(report: Function) -> Function:
        def report_job_submission(
            self: "RemoteExecutor", job_info: "SubmittedJobInfo", register_job: bool = True
        ) -> None:
            _running(self)[id(job_info)] = job_info
            report(self, job_info, register_job=register_job)

        return report_job_submission

    def forgotten(report: Function) -> Function:
        def report_end(self: "RemoteExecutor", job_info: "SubmittedJobInfo", *more: Any, **context: Any) -> None:
            _running(self).pop(id(job_info), None)
            report(self, job_info, *more, **context)

        return report_end

    def cancelling_all(cancel_jobs: Function) -> Function:
        def cancel_all(self: "RemoteExecutor", active_jobs: list[Any]) -> None:
            cancel_jobs(self, list((_running(self) | {id(job): job for job in active_jobs}).values()))

        return cancel_all

    def undisturbed(cancel: Function) -> Function:
        def cancel_undisturbed(self: "RemoteExecutor") -> None:
            with suppress(ValueError):  # fails outside the main thread, but only that is interrupted
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # permanently: the remaining work takes seconds
            cancel(self)

        return cancel_undisturbed

    patches.replace(executor, patches.SUBMITTED, noted)
    patches.replace(executor, patches.SUCCEEDED, forgotten)
    patches.replace(executor, patches.FAILED, forgotten)
    patches.replace(executor, patches.CANCEL_JOBS, cancelling_all)
    patches.replace(executor, patches.CANCEL, undisturbed)
    patches.replace(executor, patches.RUN_JOB, finished_first)


def ends_soon(executor: type[Any]) -> None:
    """Let a class of remote executors end during the pause between two queries for its jobs.

    The pause may be the plugin's first, so this must be called before there is an executor.
    """

    def ending(sleep: Function) -> Function:
        async def sleep_until_over(self: "RemoteExecutor") -> None:
            pause = asyncio.ensure_future(sleep(self))
            while self.wait and not pause.done():
                await asyncio.wait([pause], timeout=LOOK_SECONDS)
            pause.cancel()

        return sleep_until_over

    patches.replace(executor, patches.SLEEP, ending)


def out_of_reach(module: ModuleType) -> None:
    """Let a module start processes in sessions of their own, where no Ctrl-C in a terminal reaches them."""
    if vars(module).get("subprocess") is not subprocess:
        patches.note(module, patches.SUBPROCESS)
        return
    own = SimpleNamespace(**vars(subprocess))
    for name in ("Popen", "run", "call", "check_call", "check_output"):
        setattr(own, name, partial(getattr(subprocess, name), start_new_session=True))
    module.__dict__["subprocess"] = own


def terminates(scheduler: type[Any]) -> None:
    """Let Snakemake's scheduler handle SIGTERM in a separate thread.

    Its handler waits for a lock that the interrupted code may hold: some of the jobs that `scancel` ends hung then.
    """

    def in_a_thread(handler: Function) -> Function:
        def exit_gracefully(self: "JobSchedulerExecutorInterface", *args: Any) -> None:
            threading.Thread(target=handler, args=(self, *args), daemon=True).start()

        return exit_gracefully

    patches.replace(scheduler, patches.TERMINATION, in_a_thread)


def ends_with_terminal() -> None:
    """Let a run end as by Ctrl-C when its terminal is closed, instead of leaving its lock; `nohup` is respected."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def ends_at_once(scheduler: type[Any]) -> None:
    """Let Snakemake's scheduler not be held up at its end by a timer that would have let it start further jobs."""

    def in_the_background(schedule: Function) -> Function:
        def schedule_reevaluation(self: "JobSchedulerExecutorInterface", delay: float) -> None:
            timer = threading.Timer(delay, self._open_jobs.release)
            timer.daemon = True
            timer.start()

        return schedule_reevaluation

    patches.replace(scheduler, patches.REEVALUATION, in_the_background)


def submits_none_afterwards(executor: type[Any]) -> None:
    """Let the Slurm plugin's executor, which submits in threads, drop the jobs that it has not begun to submit.

    Submitted jobs are found in the queue by their names, and cancelled: this includes jobs that the plugin has not
    heard of yet, and causes no complaints about jobs that Slurm has forgotten. If the plugin lacks the needed parts,
    the jobs that it knows of are cancelled.
    """

    def after_submissions(cancel: Function) -> Function:
        def cancel_after_submissions(self: "RemoteExecutor") -> None:
            with suppress(AttributeError):
                self._job_submission_executor.shutdown(wait=True, cancel_futures=True)
            cancel(self)

        return cancel_after_submissions

    def by_name(cancel_jobs: Function) -> Function:
        def cancel_by_name(self: "RemoteExecutor", active_jobs: list[Any]) -> None:
            try:
                everywhere = ["--clusters=all"] if self._submitted_job_clusters else []
                run = str(self.run_uuid)
            except AttributeError:
                cancel_jobs(self, active_jobs)
                return
            listed, why = _output([*LIST, *everywhere])
            jobs = [line.partition(" ") for line in listed.splitlines()]
            if mine := [job for job, _, name in jobs if is_of(run, name.strip())]:
                _, why = _output(["scancel", "--quiet", *everywhere, *mine])
            if why:
                self.logger.error(f"jobs of this run may continue: {why}; try again: {cancelling(run)}")

        return cancel_by_name

    patches.replace(executor, patches.CANCEL, after_submissions)
    patches.replace(executor, patches.CANCEL_JOBS, by_name)


def _output(words: list[str]) -> tuple[str, str]:
    """What a command prints, and the reason why it has failed, which is empty if it has not."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=CANCEL_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    return done.stdout, " ".join(done.stderr.split()) or f"status {done.returncode}" if done.returncode else ""


def finished_first(function: Function) -> Function:
    """A function that an interrupt stops only at its end, not in the middle: it may be submitting a job."""

    @wraps(function)
    def called(*arguments: Any, **more: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return function(*arguments, **more)  # interrupts never reach other threads
        came = threading.Event()
        handler = signal.signal(signal.SIGINT, lambda *_: came.set())
        try:
            return function(*arguments, **more)
        finally:
            signal.signal(signal.SIGINT, handler)
            if came.is_set():
                signal.raise_signal(signal.SIGINT)

    return called


def _running(executor: "RemoteExecutor") -> dict[int, Any]:
    """The jobs of an executor that are not known to have ended, by identity."""
    found: dict[int, Any] = executor.__dict__.setdefault("shardmark_running", {})
    return found
