"""From samples to scores: extract the answers to each sample, and apply the metrics."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from shardmark.config.circular import Circular
from shardmark.filters import AnyFilter
from shardmark.filters.chain import filter_steps
from shardmark.metrics import AnyMetric
from shardmark.metrics.base import Metric, Resampled
from shardmark.metrics.repeats import All, Average, Repeats
from shardmark.records.dataset import TaskLine
from shardmark.records.prediction import Generated, Prediction, Sampled, Scored, Written
from shardmark.records.request import ChoiceRequest, GenerateRequest, Request, RollingRequest, ScoredRequest
from shardmark.records.sample import Rotation, Sample
from shardmark.records.score import Metric as Measured
from shardmark.records.score import finite
from shardmark.scoring.choice import is_tied, preferred
from shardmark.scoring.filter_steps import told_steps
from shardmark.scoring.load_metric import load_metric
from shardmark.scoring.metric_inputs import VIEWS, Judged
from shardmark.scoring.statistics import estimate_by_draws, estimate_mean
from shardmark.scoring.thinking import Thinking
from shardmark.settings import Settings
from shardmark.tasks.circular import rotated
from shardmark.tasks.frames import pieces_sent
from shardmark.tasks.requests import as_text
from shardmark.texts.thoughts import goes_on_with_thought
from shardmark.untrusted.limits import BoundError

Json = dict[str, Any]
AS_WRITTEN = Thinking()
OTHER = -1
"For kind loglikelihood: the answer if the model would rather have written another text."
MARK = "<think>"
"Stands for the mark that opened a thought if that was not noted."


class Judging(Settings):
    """The settings of a data set that decide the scores of answers."""

    kind: str
    scoring: str = "sum"
    filters: list[AnyFilter]
    chains: dict[str, list[AnyFilter]]
    metrics: list[AnyMetric]
    cluster_by: str | None
    group_mean: str = "micro"
    circular: Circular | None = None


def judge_row(
    line: TaskLine,
    asked: Mapping[str, Request],
    answers: Mapping[str, Prediction],
    settings: Judging,
    how: Thinking = AS_WRITTEN,
) -> Judged:
    """A judged sample of the task file (see `judge`); for a circular data set, with all its rotations."""
    first = judge(line, asked[line.request], answers[line.request], settings, how)
    if settings.circular is None:
        return first
    rotations = [first]
    for number, turn in enumerate(line.turns, 1):
        row = rotated(line.row, settings.circular.options, number)
        own = replace(line, row=row, request=turn.request, target=turn.target, choices=turn.choices)
        rotations.append(judge(own, asked[turn.request], answers[turn.request], settings, how))
    samples = [each.sample for each in rotations]
    told = [
        Rotation(
            request=s.request, output=s.output, answer=s.answer, target=s.target, logprobs=s.logprobs, steps=s.steps
        )
        for s in samples
    ]
    sample = replace(
        first.sample,
        rotations=told,
        steps=None,
        truncated=max(s.truncated for s in samples),
        tied=any(s.tied for s in samples),
        alone=max(s.alone for s in samples),
    )
    return dataclasses.replace(first, sample=sample, rotations=rotations)


def judge(
    line: TaskLine, request: Request, prediction: Prediction, settings: Judging, how: Thinking = AS_WRITTEN
) -> Judged:
    """A sample of the task file with the model's output and the answers extracted from it; `how` is for thoughts.

    Raises TypeError for a prediction that does not fit the request; score.py refuses such a file first.
    """
    match request, prediction:
        case GenerateRequest(), Generated() | Sampled():
            return _judge_texts(line, request, prediction, settings, how)
        case ((ChoiceRequest() | RollingRequest()), Scored()):
            return _judge_choice(line, request, prediction, settings)
    raise TypeError(f"{type(prediction).__name__} does not answer a {type(request).__name__}")


def _judge_texts(
    line: TaskLine, request: GenerateRequest, prediction: Written, settings: Judging, how: Thinking
) -> Judged:
    right, outputs = line.right, prediction.outputs
    texts = [output.marked for output in outputs]
    chains = settings.chains or {"": settings.filters}
    opened = ["" if how.apart else output.opened or prediction.opened for output in outputs]
    steps = {
        name: filter_steps(
            how.texts(prediction, marked=any(each.reads_marks for each in filters)),
            filters,
            line.row,
            f"chains.{name}" if name else "filters",
            opened=opened,
        )
        for name, filters in chains.items()
    }
    answers = {name: found[-1] for name, found in steps.items()}
    first = next(iter(answers.values()))
    statistic = settings.metrics[0].statistic(len(first))
    sample = _sample(
        line,
        prompt=as_text(request.context),
        sent=pieces_sent(request.context, prediction),
        output=texts[0],
        answer=(statistic.judged(first) if statistic else first)[0],
        end=outputs[0].end,
        outputs=texts if len(texts) > 1 else None,
        answers=answers if len(texts) > 1 or settings.chains else None,
        steps={name: told_steps(texts, found[:-1]) for name, found in steps.items() if chains[name]} or None,
        truncated=outputs[0].cut,  # the same for all samples of a request
    )
    return Judged(sample, answers, right, [])


def _judge_choice(line: TaskLine, request: ScoredRequest, prediction: Scored, settings: Judging) -> Judged:
    choices, pairs = line.choices or [], request.pairs
    chosen = preferred(settings.scoring, prediction.logprobs, prediction.tokens, choices)
    prompt, continuation = pairs[chosen]
    read = prompt or continuation
    sent = pieces_sent(read, prediction, chosen)
    output = choices[chosen]
    if settings.kind == "loglikelihood" and not prediction.greedy[0]:
        chosen = OTHER
    scoring = settings.metrics[0].ranking() or settings.scoring
    sample = _sample(
        line,
        prompt=as_text(read),
        sent=sent,
        choices=choices,
        output=output,
        logprobs=prediction.logprobs,
        tokens=prediction.tokens,
        answer=chosen,
        tied=is_tied(scoring, prediction.logprobs, prediction.tokens, choices),
        alone=prediction.alone,
        truncated=prediction.cut,
    )
    return Judged(sample, {"": [chosen]}, line.right, [as_text(asked) for _, asked in pairs], prediction.logprobs)


def _sample(line: TaskLine, **found: Any) -> Sample:
    right = line.right
    return Sample(
        sample=line.sample,
        request=line.request,
        target=right[0] if len(right) == 1 else right,
        scores={},
        row=line.row,
        group=line.group,
        **found,
    )


def with_thoughts(predictions: dict[str, Prediction]) -> dict[str, Prediction]:
    """A model's predictions, with the mark of a thought that prompts have opened added if it was not noted.

    Version 0.1 did not note it. Such a mark is inferred from outputs that end a thought without having begun it: if
    most of the outputs that ended by themselves do, then one that was cut without any mark is a cut thought.
    """
    written = [each for each in predictions.values() if not isinstance(each, Scored)]
    outputs = [output for each in written for output in each.outputs]
    ended = [goes_on_with_thought(output.marked) for output in outputs if output.end != "length"]
    if not ended or 2 * sum(ended) <= len(ended) or any(each.opened for each in written):
        return predictions
    return {key: _with_mark(each) for key, each in predictions.items()}


def _with_mark(prediction: Prediction) -> Prediction:
    match prediction:
        case Sampled():
            marked = [replace(each, opened=MARK) if each.end == "length" else each for each in prediction.samples]
            return replace(prediction, samples=marked)
        case Generated(end="length"):
            return replace(prediction, opened=MARK)
    return prediction


def measure(settings: Judging, judged: list[Judged], clusters: Sequence[str] | None = None) -> dict[str, Measured]:
    """Each metric's estimate by its label; with several chains, by `label,chain` as in lm-evaluation-harness.

    Puts the score of each sample into the sample, and those of its answers if there are several. `clusters` replaces
    the data set's.
    """
    column = settings.cluster_by
    if clusters is None and column is not None:
        clusters = [str(each.sample.row[column]) for each in judged]
    return {each.label: _estimate(each, judged, clusters) for each in _judgements(settings, judged)}


def means(settings: Judging, judged: list[Judged]) -> set[str]:
    """The labels of the metrics that are means of the samples' scores."""
    return {each.label for each in _judgements(settings, judged) if each.metric.is_mean()}


class _Judgement(NamedTuple):
    """A score to compute: its label, the metric, the answers that it judges, and how several answers are combined."""

    label: str
    metric: Metric
    chain: str
    statistic: Repeats | None


def _judgements(settings: Judging, judged: list[Judged]) -> Iterator[_Judgement]:
    for metric in settings.metrics:
        for chain in settings.chains or [""]:
            if metric.chain not in (None, chain):
                continue
            answers = len(judged[0].answers[chain])
            named = {metric.title(answers): metric.statistic(answers)}
            if settings.circular:
                name = metric.title(1)
                named = {f"{name} circular": All(name="all"), f"{name} avg over rotations": Average()}
            for title, statistic in named.items():
                yield _Judgement(f"{title},{chain}" if chain else title, metric, chain, statistic)


class _Marks(NamedTuple):
    """A metric's marks of an answer; for several answers to a sample, their terms are concatenated."""

    terms: list[float]
    score: Any
    "A number; None if a single sample's score has no meaning."


def _estimate(judgement: _Judgement, judged: list[Judged], clusters: Sequence[str] | None) -> Measured:
    label, metric, chain, statistic = judgement
    asked = [_answers(each, chain, statistic) for each in judged]
    marks = iter(_marks(metric, [pair for pairs in asked for pair in pairs], label))
    found = []
    for each, pairs in zip(judged, asked, strict=True):
        own = [next(marks) for _ in pairs]
        found.append(own[0] if statistic is None else _together(statistic, own))
        each.sample.scores[label] = finite(found[-1].score)
        if len(own) > 1:
            each.sample.answer_scores[label] = [finite(mark.score) for mark in own]
    if isinstance(metric, Resampled) and not metric.is_mean():
        value = partial(_mean_value, metric, len(asked[0]))
        estimate = estimate_by_draws([mark.terms for mark in found], value, metric.resamples, clusters)
    else:
        estimate = estimate_mean([mark.score for mark in found], clusters)
    return estimate.metric(higher_is_better=metric.higher_is_better, percent=metric.percent)


def _answers(judged: Judged, chain: str, statistic: Repeats | None) -> list[tuple[Judged, Any]]:
    """The answers to a sample that a metric judges, each with its request."""
    if judged.rotations:
        return [(turn, turn.answers[chain][0]) for turn in judged.rotations]
    answers = judged.answers[chain]
    return [(judged, answer) for answer in (statistic.judged(answers) if statistic else answers)]


def _together(statistic: Repeats, answers: list[_Marks]) -> _Marks:
    scores = [answer.score for answer in answers]
    terms = [term for answer in answers for term in answer.terms]
    return _Marks(terms, None if None in scores else statistic.value(scores))


def _mean_value(metric: Metric, answers: int, sums: np.ndarray) -> float:
    """The mean of a metric's values over the first, the second, ... answers to all samples."""
    return metric.value(sums) if answers == 1 else fmean(map(metric.value, np.split(sums, answers)))


def _marks(metric: Metric, asked: list[tuple[Judged, Any]], label: str) -> list[_Marks]:
    """A metric's marks of each answer. Raises BoundError, with the sample, for work that takes too long."""
    pairs = [VIEWS[metric.reads](each, answer, metric.ranking()) for each, answer in asked]
    if metric.unanswered is not None:
        pairs = [(metric.unanswered if prediction is None else prediction, right) for prediction, right in pairs]
    answered = [n for n, (prediction, _) in enumerate(pairs) if prediction is not None]
    found = [_Marks([0.0, 1.0], 0.0)] * len(pairs)
    if answered:
        predictions, references = zip(*(pairs[n] for n in answered), strict=True)
        options = metric.model_dump(exclude={"name"})
        try:
            computed = load_metric(metric.name).compute(
                predictions=list(predictions), references=list(references), **options
            )
        except BoundError as error:
            sample = "" if error.item is None else f"sample {asked[answered[error.item]][0].sample.sample}"
            place = ": ".join(filter(None, (error.place, sample)))
            raise BoundError(error.what, place, f"metrics.{label}.{error.key}") from error
        for n, terms, score in zip(answered, computed["terms"], computed["samples"], strict=True):
            found[n] = _Marks(terms, score)
    return found
