"""The progress of a run: scores of the answered shards, in a report that cannot be mistaken for the final one.

Shards divide the samples by hashes. Which shards are answered first depends on how long they take, so an arbitrary set
of them would be biased towards quick ones; the first ones in the order of hashes, up to the first gap, are a random
sample. Their error bars count shards as clusters. A data set with fewer than two such shards has no score.

Only whole files are read, without a plan and without locks; only results/interim/{run} is written to.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from shardmark import layout
from shardmark.config.run import RunConfig
from shardmark.errors import Problem, UserError
from shardmark.files import read_sealed
from shardmark.plan.shard_counts import Divisions
from shardmark.records.base import find_sealed, read_sealed_record, to_json
from shardmark.records.dataset import TaskHeader, TaskLine
from shardmark.records.gap import Gap, Name
from shardmark.records.model import ModelRecord
from shardmark.records.report_inputs import ReportInputs
from shardmark.records.score import SoFar
from shardmark.report.build import build_report
from shardmark.report.formats import figure, margin
from shardmark.report.inputs import read_scores
from shardmark.scoring.grouping import MACRO
from shardmark.scoring.score import Scored, collect, score_answers, shard_names, write_scored
from shardmark.store.predictions import check_predictions
from shardmark.store.requests import ids_in
from shardmark.store.tasks import read_task

FEWEST = 2
"The fewest shards for a score: a single one has no spread."
WORDS = "Interim: {final} of {all} results are final, {part} are of the first shards only, {lacking} have no score yet"


class Missing(Exception):
    """A pair that cannot be scored yet; says why."""


class State(NamedTuple):
    """The progress of a model on a data set."""

    model: str
    dataset: str
    state: str
    "final, or the part that there is."
    score: str


class Interim(NamedTuple):
    """The progress of a run so far."""

    states: list[State]
    report: Path | None
    "The front page; None if there is no score at all."


class Place(NamedTuple):
    """A pair's place in a results folder: full names of the model and of the data set's tasks."""

    model: str
    dataset: str
    task: str


class _Pair(NamedTuple):
    """The files of a pair's scores, if there are any; else the reason why not."""

    place: Place
    folder: Path
    "The results folder that they are in, or the interim report's."
    state: str
    gap: Gap | None

    @property
    def files(self) -> tuple[Path, ...]:
        scores, samples, timings = (kind.file(self.folder, **self.place._asdict()) for kind in layout.SCORED)
        return scores, samples, timings


def interim(results: Path, run: str, now: str) -> Interim:
    """Report the state of a run; `now` is the time (ISO 8601). Raises UserError if no such run was ever started."""
    given = _inputs(results, run)
    settings = RunConfig.as_written(given.facts["config"])
    out = layout.INTERIM.folder(results, file="").joinpath(run)
    pairs = [_pair(results, out, settings, Place(**layout.SCORES.fields(Path(path)))) for path in given.scores]
    scored = [pair for pair in pairs if pair.gap is None]
    states = [_state(pair) for pair in pairs]
    if not scored:
        return Interim(states, None)
    files = list(zip(*(pair.files for pair in scored), strict=True))
    final = sum(pair.state == "final" for pair in pairs)
    words = WORDS.format(final=final, all=len(pairs), part=len(scored) - final, lacking=len(pairs) - len(scored))
    facts = {**given.facts, "generated": now, "interim": words}
    index = build_report(
        f"{run} (interim)",
        list(files[0]),
        list(files[1]),
        out / "report",
        facts,
        given.descriptions or None,
        list(files[2]),
        to_json(given.groups),
        [to_json(pair.gap) for pair in pairs if pair.gap],
        [Path(path) for path in given.certificates],
        mean_weights=given.mean_weights,
        prices=given.prices,
    )
    return Interim(states, index)


def _inputs(results: Path, run: str) -> ReportInputs:
    """The inputs of the run's final report, as noted by the plan that it follows."""
    current = read_sealed(layout.CURRENT.file(results, file=f"{run}.json")).get("report", "")
    given = find_sealed(layout.REPORT_INPUTS.file(results, report=current), ReportInputs) if current else None
    if not given or not given.run:
        what = f"no run named {run} has been started in this results folder"
        raise UserError(
            Problem(str(results), "", what, "start it first, or name another with --config run=... results=...")
        )
    return given


def _pair(results: Path, out: Path, settings: RunConfig, place: Place) -> _Pair:
    final = _Pair(place, results, "final", None)
    if all(file.is_file() for file in final.files):
        return final
    try:
        scored = _scored(results, settings, place)
    except (Missing, UserError) as why:
        reason = "; ".join(problem.what for problem in why.problems) if isinstance(why, UserError) else str(why)
        name, digest = layout.split_name(place.model)
        model, dataset = Name(name=name, digest=digest), Name(name=place.dataset, digest=place.task)
        gap = Gap(model=model, dataset=dataset, status="incomplete", reason=reason)
        return _Pair(place, out, f"incomplete: {reason}", gap)
    pair = _Pair(place, out, str(scored.scores.counts.so_far or "answered, not scored yet"), None)
    write_scored(scored, *pair.files)
    return pair


def _scored(results: Path, settings: RunConfig, place: Place) -> Scored:
    """The score of a pair's answers so far. Raises Missing if these are too few."""
    model, dataset, task = place
    header, lines = _task(layout.TASKS.file(results, dataset=dataset, task=task))
    record = read_sealed_record(layout.MODELS.file(results, model=model), ModelRecord)
    try:
        bits = Divisions(results, model, settings).bits(dataset)
    except KeyError:
        raise Missing("it is not divided into shards yet") from None
    names = shard_names(results, header, bits)
    done = list(_first(results, model, dataset, names))
    if len(done) == len(names):
        return score_answers(header, lines, record, collect(names, results, model, dataset))
    if len(done) < FEWEST:
        raise Missing(f"{len(done)} of {len(names)} shards from the first on; a score needs {FEWEST}")
    if header.settings.get("lm_eval", {}).get("groups"):
        raise Missing(f"first {len(done)} of {len(names)} shards; a group of lm-eval's tasks is scored as a whole")
    return _scored_part(results, header, lines, record, done, len(names))


@cache
def _task(path: Path) -> tuple[TaskHeader, list[TaskLine]]:
    """A task file, read once for all models."""
    return read_task(path)


def _first(results: Path, model: str, dataset: str, names: Sequence[str]) -> Iterator[str]:
    """The first shards that have been answered, up to the first unanswered one."""
    for name in names:
        path = layout.PREDICTIONS.file(results, model=model, dataset=dataset, shard=name)
        if not path.is_file():
            return
        try:
            check_predictions(path)
        except UserError:
            return  # damaged: the next plan puts it aside
        yield name


def _scored_part(
    results: Path, header: TaskHeader, lines: list[TaskLine], record: ModelRecord, done: list[str], of: int
) -> Scored:
    """The score of the samples whose requests are all in these shards, with shards as clusters."""
    dataset = header.dataset.name
    shards = {key: name for name in done for key in ids_in(layout.REQUESTS.file(results, dataset=dataset, shard=name))}
    kept = [line for line in lines if all(key in shards for key in _requests(line))]
    if not kept:
        raise Missing(f"no sample has all of its requests in the first {len(done)} of {of} shards")
    whole_groups = {line.group for line in kept} == {line.group for line in lines}
    if not whole_groups and header.settings.get("group_mean") == "macro":
        raise Missing(f"first {len(done)} of {of} shards, which lack some of the groups that the mean is taken over")
    answered = collect(done, results, record.full_name, dataset)
    scored = score_answers(header, kept, record, answered, [shards[line.request] for line in kept])
    so_far = SoFar(shards=len(done), of_shards=of, samples=len(kept), of=len(lines))
    metrics = {
        label: metric for label, metric in scored.scores.metrics.items() if whole_groups or not label.endswith(MACRO)
    }
    counts = replace(scored.scores.counts, so_far=so_far)
    return scored._replace(scores=replace(scored.scores, counts=counts, metrics=metrics))


def _requests(line: TaskLine) -> Iterator[str]:
    yield line.request
    yield from (turn.request for turn in line.turns)


def _state(pair: _Pair) -> State:
    score = ""
    if pair.gap is None:
        with suppress(OSError):
            main = read_scores(pair.files[0]).main
            score = f"{figure(main)} ± {margin(main)}{' %' if main.percent else ''}"
    return State(layout.split_name(pair.place.model)[0], pair.place.dataset, pair.state, score)
