"""Score a model on a data set: predictions against targets, checked one by one against the plan."""

import functools
import hashlib
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from shardmark import __version__, layout
from shardmark.config.search_path import portable
from shardmark.errors import Problem, UserError
from shardmark.files import pretty_json, sealed, write_whole
from shardmark.installation import INSTALLATION
from shardmark.metrics import METRICS
from shardmark.records.base import read_sealed_record, to_json
from shardmark.records.dataset import TaskHeader, TaskLine
from shardmark.records.engine import EngineUse, joined
from shardmark.records.model import HubRepository, ModelRecord
from shardmark.records.origin import FileOrigin, HubOrigin, LmEvalOrigin, Origin
from shardmark.records.parts import model_components
from shardmark.records.prediction import Prediction
from shardmark.records.prediction import Scored as ScoredPrediction
from shardmark.records.request import GenerateRequest, Request
from shardmark.records.sample import Sample, sample_line
from shardmark.records.score import SCORE_PROTOCOL, Counts, DatasetInfo, Metric, ModelInfo, Provenance, Scores
from shardmark.records.shard import ShardLists
from shardmark.records.shared import distinct
from shardmark.records.timings import Timings
from shardmark.records.trailer import Trailer
from shardmark.scoring.endpoint_usage import cut_prompts, empty_answers, same_samples, served_models, usage
from shardmark.scoring.grouping import macro_estimates, reclustered
from shardmark.scoring.load_metric import load_metric
from shardmark.scoring.metric_inputs import Judged
from shardmark.scoring.near_misses import near_misses
from shardmark.scoring.sample_scores import Judging, judge_row, means, measure, with_thoughts
from shardmark.scoring.statistics import estimate_mean
from shardmark.scoring.thinking import Thinking, reasoning, thinking, with_facts
from shardmark.store.predictions import read_predictions
from shardmark.store.requests import read_requests
from shardmark.store.tasks import read_task
from shardmark.untrusted.limits import bounded_steps
from shardmark.untrusted.own_code import own_processes
from shardmark.untrusted.templates import RenderError

PACKAGES = ("evaluate", "datasets", "scipy", "snakemake")
LM_EVAL_PACKAGES = ("numpy", "rouge-score", "sacrebleu")
"Packages that the scores of lm-eval's tasks may depend on."

Json = dict[str, Any]


def score_dataset(
    task: Path, bits: int, model: Path, results: Path, scores: Path, samples: Path, timings: Path
) -> None:
    """Write the scores, the samples and the timings of a model on a data set.

    `task` is the plan's task file, `bits` gives the division of the data set into shards, `model` is the model's
    record, and `results` the folder of requests and predictions. The same predictions from the same machine give the
    same scores and samples, byte by byte; everything that varies from run to run is in `timings`: times, the division
    into shards, and the hash of the samples, whose log-likelihoods vary in their last digits with the batches they were
    computed in. Raises UserError for a prediction that is missing, duplicate or foreign, or a damaged file.
    """
    header, lines = read_task(task)
    record = read_sealed_record(model, ModelRecord)
    shards = shard_names(results, header, bits)
    asked, answers, trailers = collect(shards, results, record.full_name, header.dataset.name)
    scored = score_answers(header, lines, record, Answered(asked, answers, trailers))
    write_scored(scored, scores, samples, timings)


def shard_names(results: Path, header: TaskHeader, bits: int) -> list[str]:
    """The shards of a data set in a division, in the order of their hashes."""
    dataset = header.dataset
    lists = read_sealed_record(layout.SHARDS.file(results, dataset=dataset.name, task=dataset.digest), ShardLists)
    return [shard.name for shard in lists.level(bits)]


class Answered(NamedTuple):
    """Requests and predictions by id, and the trailers of the prediction files."""

    asked: dict[str, Request]
    answers: dict[str, Prediction]
    trailers: list[Trailer]


class Scored(NamedTuple):
    """The results of a pair's answers: the contents of the three files."""

    scores: Scores
    samples: list[Sample]
    timings: Timings


@own_processes()
def score_answers(
    header: TaskHeader,
    lines: list[TaskLine],
    record: ModelRecord,
    answered: Answered,
    clusters: Sequence[str] | None = None,
) -> Scored:
    """The scores of samples that are all answered. Raises UserError for samples that cannot be scored.

    `clusters` names one cluster for each line, for error bars, in place of those of the data set.
    """
    asked, answers, trailers = answered
    dataset = header.dataset
    how, stripped = thinking(record), False
    if isinstance(dataset.origin, LmEvalOrigin):
        from shardmark.scoring import lm_eval  # 1 s: only where its tasks are scored

        judged_samples, metrics = lm_eval.judge(lines, asked, how.answers(answers), header)
        if clusters is not None:
            metrics = reclustered(metrics, judged_samples, clusters)
    else:
        settings, answers = Judging.as_written(header.settings), with_thoughts(answers)
        judged, metrics = _judged(lines, asked, answers, dataset.where, settings, how, clusters)
        chains = [*settings.chains.values()] or [settings.filters]
        stripped = all(any(each.reads_marks for each in filters) for filters in chains)
        judged_samples = [each.sample for each in judged]
        macro = macro_estimates(metrics, means(settings, judged), judged_samples, settings.cluster_by, clusters)
        metrics = macro | metrics if settings.group_mean == "macro" else metrics | macro
    judged_samples = [with_facts(how, sample, answers[sample.request]) for sample in judged_samples]
    uses = joined([use for trailer in trailers for use in trailer.engines])
    score = Scores(
        protocol=SCORE_PROTOCOL,
        model=_model_info(record),
        dataset=_dataset_info(header),
        primary=next(iter(metrics)),
        metrics=metrics,
        counts=replace(
            _counts(judged_samples, len(asked)),
            reasoning=reasoning(how, answers.values(), stripped),
            late=_ended(answers, "time"),
            refused=_ended(answers, "refusal", "filter"),
            cut_there=cut_prompts(asked, answers),
            models=served_models(answers),
            same_samples=same_samples(asked, answers),
            empty=empty_answers(answers),
            repeated=sum(use.repeated for use in uses),
            differing=sum(use.differing for use in uses),
        ),
        provenance=_provenance(header, record, trailers, uses),
    )
    took = replace(_timings(trailers), usage=usage(record, answers), parameters=record.parameters)
    return Scored(score, judged_samples, took)


def write_scored(scored: Scored, scores: Path, samples: Path, timings: Path) -> None:
    """Write a pair's three files, the scores last."""
    lines = "".join(map(sample_line, scored.samples)).encode()
    took = replace(scored.timings, samples_sha256=hashlib.sha256(lines).hexdigest())
    write_whole(samples, lines)
    write_whole(timings, pretty_json(sealed(to_json(took))))
    write_whole(scores, pretty_json(sealed(to_json(scored.scores))))


def warm_up() -> None:
    """Do work that each job would repeat, before a process forks for them."""
    load_metric(next(iter(METRICS)))
    estimate_mean([0.0, 0.5])
    git_commit()


def _counts(samples: list[Sample], requests: int) -> Counts:
    return Counts(
        samples=len(samples),
        requests=requests,
        truncated=sum(sample.truncated > 0 for sample in samples),
        unanswered=sum(sample.answer is None for sample in samples),
        near_misses=near_misses(samples),
        tied=sum(sample.tied for sample in samples),
        alone=sum(sample.alone > 0 for sample in samples),
        within_thoughts=sum(sample.within_thought for sample in samples),
    )


def _ended(answers: dict[str, Prediction], *ends: str) -> int:
    """How many answers ended in one of these ways."""
    written = (output for each in answers.values() if not isinstance(each, ScoredPrediction) for output in each.outputs)
    return sum(output.end in ends for output in written)


def _judged(
    lines: list[TaskLine],
    asked: dict[str, Request],
    answers: dict[str, Prediction],
    where: str,
    settings: Judging,
    how: Thinking,
    clusters: Sequence[str] | None,
) -> tuple[list[Judged], dict[str, Metric]]:
    """The samples with their answers, and the metrics. Raises UserError, with file, key and sample, for failures."""
    judged, name = [], where
    with bounded_steps() as step:
        try:
            for line in lines:
                name = f"{where}: sample {line.sample}"
                with step.at(name):
                    judged.append(judge_row(line, asked, answers, settings, how))
        except RenderError as error:
            raise UserError(Problem(name, error.key or "filters", str(error), error.fix)) from error
        step.name(where)
        return judged, measure(settings, judged, clusters)


def collect(shards: Sequence[str], results: Path, model: str, dataset: str) -> Answered:
    """All requests and predictions; each prediction file must answer exactly its shard. Raises UserError."""
    asked: dict[str, Request] = {}
    answers: dict[str, Prediction] = {}
    trailers, problems = [], []
    for shard in shards:
        path = layout.PREDICTIONS.file(results, model=model, dataset=dataset, shard=shard)
        try:
            expected = read_requests(layout.REQUESTS.file(results, dataset=dataset, shard=shard))
            found, trailer = read_predictions(path)
        except UserError as error:
            problems += error.problems
            continue
        odd = {
            "missing": expected.keys() - found.keys(),
            "foreign": found.keys() - expected.keys(),
            "of another kind": {key for key in expected.keys() & found.keys() if not _fits(expected[key], found[key])},
        }
        for what, ids in odd.items():
            if ids:
                message = f"{len(ids)} predictions are {what}, such as that of request {min(ids)[:16]}"
                problems.append(Problem(str(path), "", message, "delete the file; the next run recreates it"))
        asked |= expected
        answers |= found
        trailers.append(trailer)
    if problems:
        raise UserError(problems)
    return Answered(asked, answers, trailers)


def _fits(request: Request, prediction: Prediction) -> bool:
    """Whether a prediction fits its request: it has as many texts, or log-likelihoods of as many choices."""
    if isinstance(request, GenerateRequest):
        return not isinstance(prediction, ScoredPrediction) and len(prediction.outputs) == request.samples
    return isinstance(prediction, ScoredPrediction) and len(prediction.logprobs) == len(request.pairs)


def _model_info(record: ModelRecord) -> ModelInfo:
    source, settings = record.source, record.settings
    return ModelInfo(
        name=record.name,
        digest=record.digest,
        dtype=record.dtype,
        description=settings.description,
        source=portable(settings.place),
        revision=source.identity.commit if isinstance(source, HubRepository) else None,
        num_gpus=settings.num_gpus,
    )


def _dataset_info(header: TaskHeader) -> DatasetInfo:
    dataset, settings, origin = header.dataset, header.settings, header.dataset.origin
    return DatasetInfo(
        name=dataset.name,
        digest=dataset.digest,
        description=settings["description"],
        kind=settings["kind"],
        source=_source(origin),
        revision=origin.commit if isinstance(origin, HubOrigin) else None,
        chance=settings["chance"],
        remarks=dataset.remarks,
        limit=dataset.limit or "",
        is_chat=dataset.is_chat,
    )


def _source(origin: Origin) -> str:
    match origin:
        case LmEvalOrigin():
            return ", ".join([*origin.files, *(f"{hub}@{commit}" for hub, commit in origin.hub.items())])
        case FileOrigin():
            return portable(origin.file)
        case HubOrigin():
            return origin.hub
    raise TypeError(f"no origin: {origin!r}")


def _provenance(
    header: TaskHeader, record: ModelRecord, trailers: list[Trailer], engines: list[EngineUse]
) -> Provenance:
    """Everything needed to repeat the score."""
    first = trailers[0]
    of_metrics = {
        name for metric in header.settings.get("metrics", ()) for name in METRICS[metric["name"]].needs.packages
    }
    of_metrics |= {*LM_EVAL_PACKAGES} if "lm_eval" in header.settings else set()
    packages = first.packages | {name: version(name) for name in {*PACKAGES, *of_metrics}}
    gpus = sorted({name for trailer in trailers for name in trailer.gpu_names or []})
    return Provenance(
        shardmark=__version__,
        git_commit=git_commit(),
        python=platform.python_version(),
        packages=dict(sorted(packages.items())),
        hardware=first.hardware | {"gpus": gpus},
        config={
            "model": record.settings.model_dump(),
            "dataset": header.settings,
            "weights": to_json(record.source.bare()),
            **({"adapter": to_json(record.adapter.bare())} if record.adapter else {}),
        },
        rows=to_json(header.dataset.origin),
        components=header.dataset.components,
        model_components=model_components(record),
        engines=engines,
        taken=distinct(taken for trailer in trailers for taken in trailer.taken),
    )


def _timings(trailers: list[Trailer]) -> Timings:
    """The time that the shards took, and that they were expected to take."""
    return Timings(
        shards=[trailer.shard for trailer in trailers],
        seconds=sum(t.seconds for t in trailers),
        load_seconds=sum(t.load_seconds for t in trailers),
        predicted_seconds=sum(t.predicted_seconds for t in trailers),
        requests=sum(t.inferred for t in trailers),
        reused=sum(t.reused for t in trailers),
        started=min(t.started for t in trailers),
        finished=max(t.finished for t in trailers),
        batch_size=trailers[0].batch_size,
    )


@functools.cache
def git_commit() -> str | None:
    """The commit of Shardmark itself, with `-dirty` if files were changed; None outside a checkout.

    A folder above an installed Shardmark may be a checkout of something else.
    """
    if not Path(INSTALLATION, ".git").exists():
        noted = Path(INSTALLATION, ".commit")  # written by the Snakefile, for a checkout that it made
        return noted.read_text("utf-8").strip() if noted.is_file() else None
    command = ["git", "-C", INSTALLATION, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
