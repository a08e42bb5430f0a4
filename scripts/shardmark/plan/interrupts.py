"""What an interrupted run leaves on a cluster: Snakemake's executors cancel only part of their jobs.

They cancel what they hold as active, which is nothing while they ask after their jobs: for many, that is most of the
time. And jobs that wait in the Slurm plugin's queue to be submitted are submitted all the same, after the others are
cancelled, while Python waits for its threads.
"""

from typing import Any


def cancels_all(executor: type[Any]) -> None:
    """Have a class of remote executors cancel each job that was submitted and has not ended."""
    names = ("report_job_submission", "report_job_success", "report_job_error", "cancel_jobs")
    submitted, succeeded, failed, cancel_jobs = (getattr(executor, name) for name in names)

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

    mended = (report_job_submission, report_job_success, report_job_error, cancel_all)
    for name, function in zip(names, mended, strict=True):
        setattr(executor, name, function)


def submits_none_afterwards(executor: type[Any]) -> None:
    """Have the Slurm plugin's executor, which submits in threads, give up what it has not begun to submit."""
    submitted, cancel = executor._report_job_submission_threadsafe, executor.cancel

    def report_job_submission(self: Any, job_info: Any) -> None:
        _running(self)[id(job_info)] = job_info  # at once: the loop that would report it has ended by then
        submitted(self, job_info)

    def cancel_after_submissions(self: Any) -> None:
        self._job_submission_executor.shutdown(wait=True, cancel_futures=True)
        cancel(self)

    executor._report_job_submission_threadsafe = report_job_submission
    executor.cancel = cancel_after_submissions


def _running(executor: Any) -> dict[int, Any]:
    """The jobs of an executor that are not known to have ended, by identity."""
    found: dict[int, Any] = executor.__dict__.setdefault("shardmark_running", {})
    return found
