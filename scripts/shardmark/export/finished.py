"""The inputs of a report, for exports: its scores, its samples as they were scored, and the requests to models."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shardmark import layout
from shardmark.errors import Problem, UserError, collecting
from shardmark.files import file_sha256
from shardmark.printable import without_surrogates
from shardmark.records.base import Unreadable, find_sealed, to_json
from shardmark.records.prediction import Prediction
from shardmark.records.report_inputs import ReportInputs
from shardmark.records.request import Request
from shardmark.records.sample import Sample, read_sample
from shardmark.report.groups import Group
from shardmark.report.inputs import read_gap
from shardmark.report.pair import Pair
from shardmark.report.private import public
from shardmark.report.results import Results, read_results
from shardmark.store.predictions import read_predictions
from shardmark.store.requests import read_requests

ANEW = "delete it, and run again"


@dataclass(frozen=True)
class Finished:
    """A report, and the results folder that it was made from."""

    run: str
    folder: Path
    "The report's own folder, not the link with the run's name."
    results: Path
    scored: Results


class Asked(NamedTuple):
    """A sample with its requests and their answers: one of each, or one for each rotation of its options."""

    sample: Sample
    requests: list[Request]
    answers: list[Prediction]


def read_finished(report: Path) -> Finished:
    """The inputs of a report; `report` may be the link to a run's newest one. Raises UserError."""
    folder = report.resolve()
    if not (folder / "index.html").is_file():
        raise UserError(Problem(str(report), "", "contains no report", "run first, or name a folder of reports/"))
    results = folder.parent.parent
    made_of = layout.REPORT_INPUTS.file(results, report=folder.name)
    given = find_sealed(made_of, ReportInputs)
    if not given or not given.run:
        what = "the list of what the report was made of is missing or damaged"
        raise UserError(Problem(str(made_of), "", what, "run again: a finished run only rewrites it"))
    return Finished(given.run, folder, results, _scored(results, given))


def read_previous(results: Path, report: str) -> Results:
    """The results of a run's previous report. Raises UserError if they are not in the results folder any more."""
    made_of = layout.REPORT_INPUTS.file(results, report=report)
    given = find_sealed(made_of, ReportInputs)
    files = [made_of]
    if given:
        files += [*_here(results, layout.SCORES, given.scores), *_here(results, layout.SAMPLES, given.samples)]
    gone = [file for file in files if not file.is_file()]
    if gone or not given:
        raise UserError(
            Problem(str((gone or files)[0]), "", "is gone", "none: the next report has one to compare with")
        )
    return _scored(results, given)


def _scored(results: Path, given: ReportInputs) -> Results:
    return read_results(
        _here(results, layout.SCORES, given.scores),
        _here(results, layout.SAMPLES, given.samples),
        given.descriptions or None,
        _here(results, layout.TIMINGS, given.timings),
        [Group(**public(to_json(group))) for group in given.groups],
        [read_gap(public(to_json(gap))) for gap in given.gaps],
        given.mean_weights,
        given.prices,
    )


def _here(results: Path, kind: layout.Kind, paths: list[str]) -> list[Path]:
    """The files of these names in a results folder, which may have moved since."""
    return [kind.file(results, **kind.fields(Path(path))) for path in paths]


def samples_of(pair: Pair) -> Iterator[Sample]:
    """The samples of a pair as they were scored, control characters included. Raises UserError for a damaged file."""
    path = pair.samples
    if path is None:
        return
    if pair.timings and pair.timings.samples_sha256 not in (None, file_sha256(path)):
        raise UserError(Problem(str(path), "", "damaged: it does not match the hash in its timings", ANEW))
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield read_sample(line)
            except Unreadable as error:
                raise UserError(Problem(f"{path}:{number}", "", str(error), ANEW)) from error


def asked_of(finished: Finished, pair: Pair) -> Iterator[Asked]:
    """The samples of a pair, each with its requests and answers. Raises UserError if these are gone."""
    requests, answers = _shards(finished, pair)
    for sample in samples_of(pair):
        ids = [rotation.request for rotation in sample.rotations] or [sample.request]
        try:
            yield Asked(sample, [requests[key] for key in ids], [answers[key] for key in ids])
        except KeyError as error:
            what = f"sample {sample.sample} asks request {error.args[0][:16]}, which is in none of its shards"
            raise UserError(Problem(str(pair.samples), "", what, ANEW)) from error


def _shards(finished: Finished, pair: Pair) -> tuple[dict[str, Request], dict[str, Prediction]]:
    requests: dict[str, Request] = {}
    answers: dict[str, Prediction] = {}
    model, dataset = pair.scores.model, pair.scores.dataset
    fields = {"model": layout.full_name(model.name, model.digest), "dataset": dataset.name}
    problems: list[Problem] = []
    for shard in pair.timings.shards if pair.timings else []:
        asked = layout.REQUESTS.file(finished.results, dataset=dataset.name, shard=shard)
        with collecting(problems):
            requests |= read_requests_of(asked)
            answers |= read_predictions(layout.PREDICTIONS.file(finished.results, **fields, shard=shard))[0]
    if problems:
        raise UserError(problems)
    return requests, answers


def read_requests_of(path: Path) -> dict[str, Request]:
    """The requests of a shard. Raises UserError, also if the file is missing."""
    try:
        return read_requests(path)
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise UserError(Problem(str(path), "", what, "run again: planning a run rewrites its requests")) from error


def encodable(value: Any) -> Any:
    """A JSON value whose strings can all be written as UTF-8: lone surrogates become U+FFFD."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encodable(item) for item in value]
    return value


def plain_json(value: Any) -> str:
    """A value as JSON text for other programs: UTF-8, and only numbers that JSON allows."""
    return json.dumps(encodable(value), ensure_ascii=False, allow_nan=False, default=str)
