"""The list of what a run's report is made of; its digest names the report's folder."""

import os
import shlex
import sys
from pathlib import Path

from msgspec.structs import replace

from shardmark import layout
from shardmark.config import Benchmark
from shardmark.config.backends.openai import OpenaiConfig
from shardmark.files import digest, file_sha256, pretty_json, sealed, write_if_changed
from shardmark.plan.code import source_digest
from shardmark.plan.pairs import Pair, score_files
from shardmark.plan.rescore_lm_eval import WITHOUT_TASKS, Gone
from shardmark.printable import redacted
from shardmark.records.base import find_sealed, to_json
from shardmark.records.gap import Gap
from shardmark.records.report_inputs import ReportGroup, ReportInputs

RESCORED = "from earlier answers; nothing was inferred, and models and rows are those of the records and the lock"
"The report's note on a run that infers nothing."


def plan_report(
    benchmark: Benchmark,
    descriptions: dict[str, str],
    pairs: list[Pair],
    results: Path,
    lacking: list[Gap],
    gone: list[Gone],
    local: bool,
) -> Path:
    """Write the list of the report's parts; its digest names the report's folder."""
    files = [score_files(results, pair.model, pair.dataset) for pair in pairs]
    inputs = ReportInputs(
        run=benchmark.run.run,
        scores=[scores for scores, _, _ in files],
        samples=[samples for _, samples, _ in files],
        timings=[timings for _, _, timings in files],
        slurm_jobs=_slurm_jobs(results, pairs, local),
        descriptions={
            "models": {model.name: model.settings.description for model in benchmark.models},
            "datasets": descriptions,
        },
        prices={
            model.name: (price.input, price.output)
            for model in benchmark.models
            if isinstance(model.settings, OpenaiConfig) and (price := model.settings.price)
        },
        groups=[
            ReportGroup(
                name=group.name,
                members=list(group.members),
                description=group.settings.description,
                mean=group.settings.mean,
                weights=group.settings.weights,
            )
            for group in benchmark.groups
        ],
        mean_weights=benchmark.run.mean_weights,
        gaps=lacking,
        certificates=_certificates(results, {pair.model.full_name for pair in pairs}),
        facts={
            "command": redacted(shlex.join(["snakemake", *sys.argv[1:]])),
            "config": benchmark.run.model_dump(exclude_defaults=True),
        }
        | ({"Rescored": RESCORED + _without_tasks(gone)} if benchmark.run.rescore else {}),
    )
    name = layout.full_name(benchmark.run.run, digest([inputs.identity, source_digest("report")]))
    inputs = replace(inputs, against=_previous(results, name, inputs))
    write_if_changed(layout.REPORT_INPUTS.file(results, report=name), pretty_json(sealed(to_json(inputs))))
    return layout.REPORTS.folder(results, report=name)


def _previous(results: Path, name: str, inputs: ReportInputs) -> str:
    """The last complete report of a run with other scores, to compare a new report with; empty if there is none.

    A report that is there already stays compared with the one that it was compared with.
    """
    if layout.REPORTS.file(results, report=name, file="index.html").is_file():
        return _inputs(results, name).against
    link = results / "reports" / inputs.run
    newest = os.readlink(link) if link.is_symlink() else ""
    given = _inputs(results, newest)
    same = {Path(path).parts[-2:] for path in given.scores} == {Path(path).parts[-2:] for path in inputs.scores}
    return newest if given.run and not same and not given.gaps else given.against


def _inputs(results: Path, report: str) -> ReportInputs:
    """The inputs of a report; none if they are unknown."""
    return find_sealed(layout.REPORT_INPUTS.file(results, report=report), ReportInputs) or ReportInputs()


def _slurm_jobs(results: Path, pairs: list[Pair], local: bool) -> list[str]:
    """The files about jobs on Slurm of the models, as far as they are there or may come to be."""
    files = [layout.SLURM_JOBS.file(results, model=name) for name in dict.fromkeys(p.model.full_name for p in pairs)]
    return [str(file) for file in files if file.is_file() or not local]


def _without_tasks(gone: list[Gone]) -> str:
    names = ", ".join(sorted(each.name for each in gone))
    return f"; {WITHOUT_TASKS}: {names}" if gone else ""


def _certificates(results: Path, models: set[str]) -> dict[str, str]:
    """The certificates of models, each with the SHA-256 of its file."""
    found = layout.CERTIFICATES.found(results)
    return {str(path): file_sha256(path) for path in found if models & {*layout.CERTIFICATES.fields(path).values()}}
