"""Shardmark from Python: the plan of a run, and the results of a finished one (docs/api.md).

Packages that these functions need are imported when they are called. All functions raise `shardmark.errors.UserError`,
whose text names the file, the key and the fix. To start a run, call `shardmark run` or `snakemake`: it is a workflow.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from shardmark.export.finished import Finished
    from shardmark.report.changes import Change
    from shardmark.report.compared import Compared
    from shardmark.tools.details import PlanDetails

__all__ = ["Report", "changes", "compare", "plan", "report", "samples", "scores"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Report:
    """A report and its contents."""

    run: str
    folder: Path
    "The report's own folder, not the link with the run's name."
    html: Path
    models: list[str]
    datasets: list[str]
    missing: list[tuple[str, str]]
    "Model and data set of each score that is missing because the run ended with failures."


def plan(configfiles: PathLike | Iterable[PathLike] = (), *, local: bool = True, **config: Any) -> PlanDetails:
    """The work of a run in the current folder, as in its dry run: nothing runs, and the lock stays as it is.

    `configfiles` are those of `--configfile` (by default config/config.yaml), `config` the values of `--config`, such
    as `models=["demo_small"]`. `local` is whether jobs run on this machine, whose GPUs must then suffice. Requests are
    rendered into the results folder, as by `snakemake -n`.
    """
    from snakemake.utils import update_config

    from shardmark.config.merge import Merged, merge
    from shardmark.config.offline import use_offline
    from shardmark.tools.details import plan_details
    from shardmark.tools.planned import plan_run
    from shardmark.workflow.snakefile import slots

    files = [configfiles] if isinstance(configfiles, str | os.PathLike) else configfiles
    run = merge(map(Path, files), [])
    update_config(run.config, config)
    run = Merged(run.config, run.where, frozenset(config))
    use_offline(run.config)
    cores = os.cpu_count() if local else None
    found = plan_run(run, Path.cwd(), local)
    return plan_details(found, lambda pair: slots(pair.model.settings, run.config, cores, None))


def report(folder: PathLike) -> Report:
    """The contents of a report: a folder in results/reports, or the link to a run's newest one, results/reports/RUN."""
    finished = _finished(folder)
    return Report(
        run=finished.run,
        folder=finished.folder,
        html=finished.folder / "index.html",
        models=[model.name for model in finished.scored.models],
        datasets=[dataset.name for dataset in finished.scored.datasets],
        missing=[(gap.model.name, gap.dataset.name) for gap in finished.scored.gaps],
    )


def scores(folder: PathLike) -> pd.DataFrame:
    """The scores of a report: a row for each metric of each model on each data set and group of data sets.

    The columns are those of scores.parquet (docs/exports.md). A missing score has a row with the reason as its
    `status`, which is "scored" for all others.
    """
    from shardmark.export.parquet import scores_table

    found: pd.DataFrame = scores_table(_finished(folder)).to_pandas()
    return found


def samples(folder: PathLike, model: str | None = None, dataset: str | None = None) -> pd.DataFrame:
    """The samples of a report, or of one of its models or data sets: prompt, output, answer, target, scores and so on.

    The columns are those of samples.parquet (docs/exports.md), except that `answer`, `target` and `row` are values, not
    JSON, and `scores` is a mapping.
    """
    import json

    import pyarrow as pa

    from shardmark.errors import Problem, UserError, nearest
    from shardmark.export.parquet import SAMPLES, sample_tables

    finished = _finished(folder)
    known = {
        "model": [each.name for each in finished.scored.models],
        "dataset": [each.name for each in finished.scored.datasets],
    }
    for (key, names), name in zip(known.items(), (model, dataset), strict=True):
        if name is not None and name not in names:
            raise UserError(Problem(str(folder), key, f"the report has no {key} {name!r}", nearest(name, names)))
    parts = [
        part
        for pair in finished.scored
        if model in (None, pair.scores.model.name) and dataset in (None, pair.scores.dataset.name)
        for part in sample_tables(pair)
    ]
    table = pa.concat_tables(parts) if parts else SAMPLES.empty_table()
    found: pd.DataFrame = table.to_pandas(maps_as_pydicts="strict")
    for column in ("answer", "target", "row"):
        found[column] = [json.loads(text) for text in found[column]]
    return found


def compare(folder: PathLike, models: Sequence[str] = (), datasets: Sequence[str] = ()) -> list[Compared]:
    """The differences between a report's models, on the same samples, with intervals and p-values.

    Compares all models with each other, or the named ones; with two data sets and no model, the two data sets.
    """
    from shardmark.tools.compare import compare_report

    return compare_report(Path(folder), models, datasets)


def changes(folder: PathLike, against: PathLike) -> list[Change]:
    """The differences of a report from an earlier one or from another run's, and their causes."""
    from shardmark.tools.compare import compare_reports

    return compare_reports(Path(folder), Path(against))


def _finished(folder: PathLike) -> Finished:
    from shardmark.export.finished import read_finished

    return read_finished(Path(folder))
