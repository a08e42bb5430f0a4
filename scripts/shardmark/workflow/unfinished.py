"""Reports of runs that end with failures: results so far, with the missing ones and the reasons.

Such a report has its own folder, named by its content like any other, so that it is never taken for the complete one.
"""

import atexit
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace
from snakemake.exceptions import WorkflowError

from shardmark import layout
from shardmark.errors import UserError
from shardmark.files import digest, pretty_json, sealed, write_if_changed
from shardmark.plan.code import source_digest
from shardmark.plan.pairs import Pair, score_files
from shardmark.plan.plan import Plan
from shardmark.records.base import read_sealed_record, to_json
from shardmark.records.gap import Gap, Name
from shardmark.records.report_inputs import ReportInputs
from shardmark.workflow.newest_report import link_newest
from shardmark.workflow.progress import last_words, written_since
from shardmark.workflow.slurm import refusals
from shardmark.workflow.snakefile import tell, uses_conda

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

COMMAND = "{command}/report.py --inputs {inputs:q} --out {folder:q} --log {notes:q}"
LEVEL = re.compile(r"^[A-Z]+ [\w.]+: ")
LONGEST = 300
"The most characters of a reason in a report."


class Step(NamedTuple):
    """A job that a pair's scores need and that has no result; if it has run, its log tells why."""

    what: str
    log: Path


def publish_unfinished(plan: Plan | None, since: float, workflow: "Workflow", command: str) -> None:
    """Publish a report of a run that failed after the time `since`; `command` calls the commands in scripts/.

    Nothing is published if the run was interrupted, if it was not to make a report, or if it has no scores at all.
    """
    jobs = [job for job in workflow.dag.needrun_jobs(exclude_finished=False) if job.rule.name == "report"]
    scheduler = workflow.scheduler
    if plan is None or not jobs or scheduler.running or scheduler._user_kill is not None:
        return
    scored = [pair for pair in plan.pairs if not _unscored(plan, pair)]
    if not scored or len(scored) == len(plan.pairs):
        return
    try:
        folder = plan_unfinished(plan, since)
        _make(folder, plan.results, command, jobs[0].conda_env if uses_conda(workflow) else None)
        link_newest(folder, plan.published)
    except (OSError, UserError, WorkflowError, subprocess.CalledProcessError) as error:
        print(f"no report of the existing results could be made: {error}", file=sys.stderr)
        return
    counts = f"{len(scored)} of {len(plan.pairs)} results"
    atexit.register(tell, plan.published, f"incomplete report ({counts})")


def plan_unfinished(plan: Plan, since: float) -> Path:
    """Write the list of the parts of an unfinished run's report; its digest names the folder returned."""
    given = read_sealed_record(layout.REPORT_INPUTS.file(plan.results, report=plan.report.name), ReportInputs)
    absent = {file for pair in plan.pairs if _unscored(plan, pair) for file in _files(plan, pair)}
    inputs = replace(
        given,
        scores=[file for file in given.scores if file not in absent],
        samples=[file for file in given.samples if file not in absent],
        timings=[file for file in given.timings if file not in absent],
        gaps=[*given.gaps, *gaps(plan, since)],
    )
    name = layout.full_name(plan.benchmark.run.run, digest([inputs.identity, source_digest("report")]))
    write_if_changed(layout.REPORT_INPUTS.file(plan.results, report=name), pretty_json(sealed(to_json(inputs))))
    return layout.REPORTS.folder(plan.results, report=name)


def gaps(plan: Plan, since: float) -> list[Gap]:
    """Each model and data set without scores, with the job that has failed since a time."""
    return [_gap(plan, pair, since) for pair in plan.pairs if _unscored(plan, pair)]


def _gap(plan: Plan, pair: Pair, since: float) -> Gap:
    steps = list(_steps(plan, pair))
    tried = [step for step in steps if written_since(step.log, since)]
    model = Name(name=pair.model.name, digest=pair.model.digest)
    dataset = Name(name=pair.dataset.name, digest=pair.dataset.digest)
    if tried:
        reason = f"{tried[0].what}: {_in_a_line(last_words(tried[0].log))}"
        cut = reason if len(reason) <= LONGEST else reason[: LONGEST - 1] + "…"
        return Gap(model=model, dataset=dataset, status="failed", reason=cut, log=str(tried[0].log))
    refused = refusals()
    reason = refused[0] if refused else f"{steps[0].what}, but no job for it has written a log"
    return Gap(model=model, dataset=dataset, status="not run", reason=reason)


def _in_a_line(words: str) -> str:
    """The end of a log without levels and loggers; for a traceback, the exception."""
    lines = [LEVEL.sub("", line).strip() for line in words.splitlines()]
    return lines[-1] if any(line.startswith("Traceback (") for line in lines) else " ".join(lines)


def _steps(plan: Plan, pair: Pair) -> Iterator[Step]:
    """The steps that a pair's scores still need, in order."""
    results, model = plan.results, pair.model.full_name
    place = {"model": model, "dataset": pair.dataset.name}
    names = [shard.name for shard in pair.missing]
    missing = [name for name in names if not layout.PREDICTIONS.file(results, **place, shard=name).is_file()]
    if missing and not layout.STAGED.file(results, model=model).is_file():
        yield Step("the model is not staged", layout.STAGE_LOGS.file(results, model=model))
    for shard in missing:
        what = f"no answers of {len(missing)} of {pair.shards} shards"
        yield Step(what, layout.INFER_LOGS.file(results, **place, shard=shard))
    if not missing:
        log = layout.SCORE_LOGS.file(results, **place, task=pair.dataset.digest)
        yield Step("the answers are not scored", log)


def _unscored(plan: Plan, pair: Pair) -> bool:
    return not all(Path(file).is_file() for file in _files(plan, pair))


def _files(plan: Plan, pair: Pair) -> tuple[str, ...]:
    return score_files(plan.results, pair.model, pair.dataset)


def _make(folder: Path, results: Path, command: str, conda: Any) -> None:
    """Run the report command as the rule would run it. Raises CalledProcessError if it fails."""
    from snakemake.shell import shell

    more = {"conda_env": conda.address} if conda else {}
    inputs = str(layout.REPORT_INPUTS.file(results, report=folder.name))
    notes = str(layout.REPORT_LOGS.file(results, report=folder.name))
    shell(COMMAND, command=command, inputs=inputs, folder=str(folder), notes=notes, **more)
