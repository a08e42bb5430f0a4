"""Score a model on a data set: predictions against targets, checked one by one against the plan."""

import hashlib
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from shardmark import __version__, layout
from shardmark.errors import Problem, UserError
from shardmark.files import pretty_json, sealed, write_whole
from shardmark.metrics import METRICS
from shardmark.records.base import read_sealed_record, to_json
from shardmark.records.dataset import TaskHeader, TaskLine
from shardmark.records.model import HubRepository, ModelRecord
from shardmark.records.origin import FileOrigin, HubOrigin, LmEvalOrigin, Origin
from shardmark.records.prediction import Prediction, Scored
from shardmark.records.request import GenerateRequest, Request
from shardmark.records.sample import Sample, sample_line
from shardmark.records.score import SCORE_PROTOCOL, Counts, DatasetInfo, Metric, ModelInfo, Provenance, Scores
from shardmark.records.shard import ShardLists
from shardmark.records.timings import Timings
from shardmark.records.trailer import Trailer
from shardmark.scoring.grouping import macro_estimates
from shardmark.scoring.metric_inputs import Judged
from shardmark.scoring.near_misses import near_misses
from shardmark.scoring.sample_scores import Judging, judge_row, means, measure, with_thoughts
from shardmark.scoring.thinking import Thinking, reasoning, thinking, with_facts
from shardmark.store.predictions import read_predictions
from shardmark.store.requests import read_requests
from shardmark.store.tasks import read_task
from shardmark.untrusted.limits import bounded_steps
from shardmark.untrusted.templates import RenderError

PACKAGES = ("evaluate", "datasets", "scipy", "snakemake")
LM_EVAL_PACKAGES = ("numpy", "rouge-score", "sacrebleu")
"What the scores of lm-eval's tasks may come from."

Json = dict[str, Any]


def score_dataset(
    task: Path, bits: int, model: Path, results: Path, scores: Path, samples: Path, timings: Path
) -> None:
    """Write the scores, the samples and the timings of a model on a data set.

    `task` is the plan's task file, `bits` says into how many shards the data set was divided, `model` is the model's
    record, and `results` the folder of requests and predictions. The same predictions of the same machine give the
    same scores and samples, byte by byte; what differs from run to run is in `timings`: times, the division into
    shards, and the hash of the samples, in which log-likelihoods differ in their last digits with the batches they
    were computed in. Raises UserError for a prediction that is missing, doubled or foreign, or a damaged file.
    """
    header, lines = read_task(task)
    record = read_sealed_record(model, ModelRecord)
    dataset = header.dataset
    lists = read_sealed_record(layout.SHARDS.file(results, dataset=dataset.name, task=dataset.digest), ShardLists)
    shards = [shard.name for shard in lists.level(bits)]
    asked, answers, trailers = _collect(shards, results, record.full_name, dataset.name)
    how, stripped = thinking(record), False
    if isinstance(dataset.origin, LmEvalOrigin):
        from shardmark.scoring import lm_eval  # 1 s: only where its tasks are scored

        judged_samples, metrics = lm_eval.judge(lines, asked, how.answers(answers), header)
    else:
        settings, answers = Judging.as_written(header.settings), with_thoughts(answers)
        judged, metrics = _judged(lines, asked, answers, dataset.where, settings, how)
        chains = [*settings.chains.values()] or [settings.filters]
        stripped = all(any(each.reads_marks for each in filters) for filters in chains)
        judged_samples = [each.sample for each in judged]
        macro = macro_estimates(metrics, means(settings, judged), judged_samples, settings.cluster_by)
        metrics = macro | metrics if settings.group_mean == "macro" else metrics | macro
    judged_samples = [with_facts(how, sample, answers[sample.request]) for sample in judged_samples]
    score = Scores(
        protocol=SCORE_PROTOCOL,
        model=_model_info(record),
        dataset=_dataset_info(header),
        primary=next(iter(metrics)),
        metrics=metrics,
        counts=replace(
            _counts(judged_samples, len(asked)),
            reasoning=reasoning(how, answers.values(), stripped),
            late=_late(answers),
        ),
        provenance=_provenance(header, record, trailers),
    )
    lines_of_samples = "".join(map(sample_line, judged_samples)).encode()
    took = _timings(trailers, hashlib.sha256(lines_of_samples).hexdigest())
    write_whole(samples, lines_of_samples)
    write_whole(timings, pretty_json(sealed(to_json(took))))
    write_whole(scores, pretty_json(sealed(to_json(score))))


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


def _late(answers: dict[str, Prediction]) -> int:
    """Answers that were ended by the clock."""
    written = (output for each in answers.values() if not isinstance(each, Scored) for output in each.outputs)
    return sum(output.end == "time" for output in written)


def _judged(
    lines: list[TaskLine],
    asked: dict[str, Request],
    answers: dict[str, Prediction],
    where: str,
    settings: Judging,
    how: Thinking,
) -> tuple[list[Judged], dict[str, Metric]]:
    """The samples with their answers, and the metrics. Raises UserError, with file, key and sample, for what fails."""
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
        return judged, measure(settings, judged)


def _collect(
    shards: list[str], results: Path, model: str, dataset: str
) -> tuple[dict[str, Request], dict[str, Prediction], list[Trailer]]:
    """All requests and predictions by id, and the trailers; each prediction file must answer exactly its shard."""
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
                message = f"{len(ids)} predictions are {what}, for instance that of request {min(ids)[:16]}"
                problems.append(Problem(str(path), "", message, "delete the file; it is then made anew"))
        asked |= expected
        answers |= found
        trailers.append(trailer)
    if problems:
        raise UserError(problems)
    return asked, answers, trailers


def _fits(request: Request, prediction: Prediction) -> bool:
    """Whether a prediction has what the request asks for: so many texts, or the log-likelihoods of so many choices."""
    if isinstance(request, GenerateRequest):
        return not isinstance(prediction, Scored) and len(prediction.outputs) == request.samples
    return isinstance(prediction, Scored) and len(prediction.logprobs) == len(request.pairs)


def _model_info(record: ModelRecord) -> ModelInfo:
    source, settings = record.source, record.settings
    return ModelInfo(
        name=record.name,
        digest=record.digest,
        dtype=record.dtype,
        description=settings.description,
        source=settings.place,
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
            return origin.file
        case HubOrigin():
            return origin.hub
    raise TypeError(f"no origin: {origin!r}")


def _provenance(header: TaskHeader, record: ModelRecord, trailers: list[Trailer]) -> Provenance:
    """What is needed to repeat the score."""
    first = trailers[0]
    of_metrics = {
        name for metric in header.settings.get("metrics", ()) for name in METRICS[metric["name"]].needs.packages
    }
    of_metrics |= {*LM_EVAL_PACKAGES} if "lm_eval" in header.settings else set()
    packages = first.packages | {name: version(name) for name in {*PACKAGES, *of_metrics}}
    gpus = sorted({name for trailer in trailers for name in trailer.gpu_names or []})
    return Provenance(
        shardmark=__version__,
        git_commit=_git_commit(),
        python=platform.python_version(),
        packages=dict(sorted(packages.items())),
        hardware=first.hardware | {"gpus": gpus},
        config={
            "model": record.settings.model_dump(),
            "dataset": header.settings,
            "weights": to_json(replace(record.source, parameters=UNSET)),
            **({"adapter": to_json(record.adapter)} if record.adapter else {}),
        },
        rows=to_json(header.dataset.origin),
        components=header.dataset.components,
    )


def _timings(trailers: list[Trailer], samples_sha256: str) -> Timings:
    """How long the shards took, and how long they were expected to take."""
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
        samples_sha256=samples_sha256,
    )


def _git_commit() -> str | None:
    """The commit of Shardmark itself, with `-dirty` if files were changed; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
