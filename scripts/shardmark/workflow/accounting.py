"""What a run's jobs on Slurm used of what they asked for, from Slurm's accounting, for the report.

A job is looked up by its id as soon as the plugin is told that it has ended, since the report is made right after the
last one, and since many clusters keep no comments from which its model could be told. A cluster without accounting, or
one that answers late, costs nothing: its jobs are then not in the report.
"""

import asyncio
import logging
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardmark import layout
from shardmark.files import pretty_json, sealed, write_whole
from shardmark.records.base import find_sealed, to_json
from shardmark.records.slurm_jobs import SlurmJob, SlurmJobs

if TYPE_CHECKING:
    from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

FIELDS = "JobIDRaw,State,ElapsedRaw,AllocCPUS,TotalCPU,MaxRSS,ReqMem,AllocNodes"
ACTIVE = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "RESIZING"}
"States of jobs that have not ended; those that are preempted may go on as well."
ASK_SECONDS = 10
TRIES, PAUSE_SECONDS = 3, 1.0
VAIN = 5
"How often a job is asked after in vain before it is left out."
log = logging.getLogger(__name__)
"The accounting may hear of the end of a job a moment after the queue."

Query = Callable[..., Awaitable[tuple[dict[str, str] | None, float | None]]]


class Accounts:
    """Files of what a run's jobs used, each written when one of a model's jobs has ended."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.jobs: dict[str, tuple[str, bool]] = {}
        "The model of each job that has not been looked up, and whether the job infers."
        self.ended: Counter[str] = Counter()
        "How often each job that has ended was asked after in vain."

    def noting(self, report: Callable[..., None]) -> Callable[..., None]:
        """An executor's report of a submitted job, changed to note whose job it is."""

        def report_job_submission(
            executor: "RemoteExecutor", job_info: "SubmittedJobInfo", register_job: bool = True
        ) -> None:
            parts = list(getattr(job_info.job, "jobs", None) or [job_info.job])
            models = {getattr(part.wildcards, "model", "") for part in parts}
            if len(models) == 1 and (model := models.pop()):
                infers = any(part.rule.name == "infer" for part in parts)
                self.jobs[str(job_info.external_jobid)] = model, infers
            report(executor, job_info, register_job=register_job)

        return report_job_submission

    def looking_up(self, query: Query) -> Query:
        """The plugin's query for the states of its jobs, changed to look up those that have ended."""

        async def asked(*arguments: Any) -> tuple[dict[str, str] | None, float | None]:
            states, seconds = await query(*arguments)
            over = [
                job for job, state in (states or {}).items() if job in self.jobs and state not in {*ACTIVE, "PREEMPTED"}
            ]
            if over:
                try:
                    await asyncio.to_thread(self.look_up, [*over, *(self.ended.keys() - over)])
                except Exception as error:  # the run does not depend on it
                    log.warning("what jobs used is not written down: %s", error)
            return states, seconds

        return asked

    def look_up(self, ids: list[str]) -> None:
        """Write down what the accounting says of jobs that have ended; those that it does not know yet are left out."""
        found: dict[str, SlurmJob] = {}
        for pause in (*[PAUSE_SECONDS] * (TRIES - 1), 0):
            found = accounted({job: self.jobs[job][1] for job in ids})
            if len(found) == len(ids):
                break
            time.sleep(pause)
        by_model: dict[str, dict[str, SlurmJob]] = {}
        for job in ids:
            if job in found:
                model, _ = self.jobs.pop(job)
                by_model.setdefault(model, {})[job] = found[job]
                self.ended.pop(job, None)
            else:  # the accounting may lag: it is asked again with the next jobs that end
                self.ended[job] += 1
                if self.ended[job] >= VAIN:
                    del self.ended[job], self.jobs[job]
        for model, jobs in by_model.items():
            file = layout.SLURM_JOBS.file(self.results, model=model)
            before = find_sealed(file, SlurmJobs) or SlurmJobs()
            write_whole(file, pretty_json(sealed(to_json(SlurmJobs(jobs=before.jobs | jobs)))))


def accounted(ids: dict[str, bool]) -> dict[str, SlurmJob]:
    """What `sacct` says of jobs that have ended, each given with whether it infers; nothing if it does not answer."""
    ask = ["sacct", "--parsable2", "--noheader", f"--format={FIELDS}", f"--jobs={','.join(ids)}"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, errors="replace", timeout=ASK_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    rows = [line.split("|") for line in done.stdout.splitlines()] if done.returncode == 0 else []
    whole = [row for row in rows if len(row) == len(FIELDS.split(","))]
    found = {}
    for row in whole:
        if row[0] in ids and row[1].split()[0] not in ACTIVE:
            found[row[0]] = _job(row, [step for step in whole if step[0].startswith(f"{row[0]}.")], ids[row[0]])
    return found


def _job(row: list[str], steps: Iterable[list[str]], infers: bool) -> SlurmJob:
    from snakemake_executor_plugin_slurm.efficiency_report import parse_maxrss, parse_reqmem
    from snakemake_executor_plugin_slurm.utils import time_to_seconds

    _, state, elapsed, cpus, cpu_time, _, asked, nodes = row
    used = [parse_maxrss(step[5]) for step in steps if step[5]]
    return SlurmJob(
        infers=infers,
        state=state.split()[0],
        seconds=int(elapsed or 0),
        cpus=int(cpus or 0),
        cpu_seconds=float(time_to_seconds(cpu_time)),
        memory=float(max(used)) if used else None,
        memory_asked=float(parse_reqmem(asked, int(nodes or 1))) * (int(cpus or 1) if asked.endswith("c") else 1),
    )
