"""How the answers to one of lm-eval's tasks are judged, by its rules."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from shardmark.records import score
from shardmark.records.dataset import TaskLine
from shardmark.records.prediction import Generated, Prediction, Scored, Written
from shardmark.records.request import GenerateRequest, Request
from shardmark.records.sample import Sample
from shardmark.scoring.choice import is_tied
from shardmark.scoring.lm_eval.aggregations import aggregate
from shardmark.scoring.lm_eval.filters import FILTERS
from shardmark.scoring.lm_eval.values import (
    Metric,
    choice_values,
    generated_values,
    registered_metric,
    rolling_values,
)
from shardmark.scoring.statistics import Estimate
from shardmark.tasks.lm_eval.code import Code
from shardmark.tasks.lm_eval.files import Function
from shardmark.tasks.lm_eval.judging import DEFAULTS, REGISTERED, default_aggregation
from shardmark.tasks.requests import as_text
from shardmark.untrusted.limits import BoundError

Record = dict[str, Any]
DEFAULT_CHAIN = {"name": "none", "filter": [{"function": "take_first"}]}
OWN_KEYS = ("metric", "aggregation", "higher_is_better", "hf_evaluate")
"Keys of a metric that are no options of its function."

NUMBER = (bool, int, float, np.number, np.bool_)
COMPARED = {"acc_norm": "char", "acc_bytes": "byte"}
"How metrics compare choices (see scoring/choice.py), where it is not by the sum of log-likelihoods."
MEANS = {"mean", "nanmean", "median"}
"Aggregations whose value is a fraction if all values are."


class Result(NamedTuple):
    """What a task makes of an answer."""

    answer: Any
    "Of generated text what the first chain of filters found."
    values: Record
    "By metric and chain of filters: a number, or what the metric's aggregation takes."


class Task:
    """A task's rules. Functions of its own are imported when they are needed."""

    def __init__(self, name: str, settings: Record, code: Code) -> None:
        self.name, self.code = name, code
        self.kind = settings["output_type"]
        self.repeats = settings["repeats"]
        self.process: Function | None = settings["process_results"]
        self.chains = settings["filter_list"] or [DEFAULT_CHAIN]
        given = settings["metric_list"]
        given = [{"metric": metric} for metric in DEFAULTS[self.kind]] if given is None else given
        self.metrics: dict[str, Record] = {self._called(metric): metric for metric in given}
        self.rules = dict(self.metrics)
        self.functions: dict[str, tuple[Metric, Record]] = {}
        if self.process is None and self.kind == "generate_until":
            self.functions = {name: self._function(metric) for name, metric in self.metrics.items()}

    def _called(self, metric: Record) -> str:
        name = metric["metric"]
        return str(self.code.load(name).__name__) if isinstance(name, Function) else str(name)

    def _function(self, metric: Record) -> tuple[Metric, Record]:
        name, options = metric["metric"], {key: value for key, value in metric.items() if key not in OWN_KEYS}
        if isinstance(name, Function):
            return self.code.load(name), options
        return registered_metric(name, bool(metric.get("hf_evaluate"))), options

    def results(self, lines: list[TaskLine], answers: dict[str, Prediction]) -> list[Result]:
        """Of each line the answer and what each metric and chain of filters makes of it."""
        docs = [line.row for line in lines]
        found = [answers[line.request] for line in lines]
        results = [Result(None, {}) for _ in lines]
        for number, chain in enumerate(self.chains):
            filtered = self._results(chain, found, docs)
            for doc, (result, line, answer) in enumerate(zip(results, lines, filtered, strict=True)):
                with self._named("metric_list", doc):
                    values = self._values(line, answer)
                result.values.update({_key(metric, chain["name"]): value for metric, value in values.items()})
                if self.kind == "generate_until" and not number:
                    results[doc] = result._replace(answer=answer[0])
        return results

    def samples(
        self,
        lines: list[TaskLine],
        asked: dict[str, Request],
        answers: dict[str, Prediction],
        results: list[Result],
    ) -> list[Sample]:
        """The samples with their scores: of the results, the numbers."""
        return [
            self._sample(line, asked[line.request], answers[line.request], result)
            for line, result in zip(lines, results, strict=True)
        ]

    def _sample(self, line: TaskLine, request: Request, prediction: Prediction, result: Result) -> Sample:
        numbers = {name: value for name, value in result.values.items() if isinstance(value, NUMBER)}
        make = partial(
            Sample,
            sample=line.sample,
            request=line.request,
            target=line.target,
            scores={name: float(value) for name, value in numbers.items()},
            row=line.row,
            group=line.group,
        )
        if isinstance(request, GenerateRequest):
            several = _written(prediction).outputs
            return make(
                prompt=as_text(request.context),
                output=several[0].text,
                answer=result.answer,
                end=several[0].end,
                truncated=max(one.cut for one in several),
            )
        scored, pairs = _scored(prediction), request.pairs
        choices = line.choices or [continuation for _, continuation in pairs]
        logprobs, tokens = scored.logprobs[: len(choices)], scored.tokens[: len(choices)]
        chosen = logprobs.index(max(logprobs))
        context, continuation = pairs[chosen]
        return make(
            prompt=as_text(context or continuation),
            choices=choices,
            output=choices[chosen],
            logprobs=[*logprobs],
            tokens=tokens,
            answer=chosen,
            truncated=scored.cut,
            tied=self.kind == "multiple_choice" and self._is_tied(logprobs, tokens, choices),
            alone=scored.alone,
        )

    @contextmanager
    def _named(self, key: str, doc: int | None = None) -> Iterator[None]:
        """A block whose BoundError tells the task, the document and the setting."""
        try:
            yield
        except BoundError as error:
            number = error.item if doc is None else doc
            place = ": ".join(filter(None, (error.place, f"{self.name}, document {number}")))
            raise BoundError(error.what, place, f"{key}.{error.key}") from error

    def _is_tied(self, logprobs: list[float], tokens: list[int], choices: list[Any]) -> bool:
        """Whether the best choice is one of several that the first metric finds equally good."""
        scoring = COMPARED.get(next(iter(self.metrics), ""), "sum")
        return is_tied(scoring, logprobs, tokens, [str(choice) for choice in choices])

    def _results(self, chain: Record, predictions: list[Prediction], docs: list[Any]) -> list[list[Any]]:
        """For each document what lm-eval hands to its metrics."""
        if self.kind == "loglikelihood_rolling":
            return [list(_scored(prediction).logprobs) for prediction in predictions]
        if self.kind != "generate_until":
            return [list(zip(p.logprobs, p.greedy, strict=True)) for p in map(_scored, predictions)]
        responses: Any = [self._texts(prediction) for prediction in predictions]
        for number, step in enumerate(chain["filter"]):
            options = {key: value for key, value in step.items() if key != "function"}
            if isinstance(options.get("filter_fn"), Function):
                options["filter_fn"] = self.code.load(options["filter_fn"])
            function = step["function"]
            if isinstance(function, Function):
                responses = list(self.code.load(function)(**options).apply(responses, docs))
            else:
                with self._named(f"filter_list.{chain['name']}.{number}"):
                    responses = FILTERS[function](responses, docs, **options)
        return [[response] for response in responses]

    def _texts(self, prediction: Prediction) -> list[str]:
        """A greedy answer would be the same each time."""
        texts = [output.text for output in _written(prediction).outputs]
        return texts * self.repeats if isinstance(prediction, Generated) else texts

    def _values(self, line: TaskLine, result: list[Any]) -> Record:
        if self.process is not None:
            return dict(self.code.load(self.process)(line.row, result))
        several = line.several
        target = line.target
        if self.kind == "generate_until":
            choices = line.choices
            gold = target if choices is None else choices[target]
            return self._flat(generated_values(gold, result[0], self.functions, several))
        if self.kind == "loglikelihood":
            ((logprob, greedy),) = result
            values: Record = {"perplexity": logprob, "acc": int(greedy)}
        elif self.kind == "loglikelihood_rolling":
            values = rolling_values(target, result[0])
        else:
            values = choice_values(target, line.choices or [], result, several)
        return {name: values[name] for name in self.metrics}

    def _flat(self, values: Record) -> Record:
        """Values by name; of a metric that gives several, each is aggregated by the metric's rule."""
        flat: Record = {}
        for metric, found in values.items():
            several = found if isinstance(found, dict) else {metric: found}
            for name in several:
                self.rules.setdefault(name, self.metrics[metric])
            flat |= several
        return flat

    def measured(self, results: list[Result]) -> dict[str, score.Metric]:
        """The metrics over all samples, by name; other than `none`, the chain of filters follows the metric."""
        names = dict.fromkeys(name for result in results for name in result.values)
        return {name: self._measured(name, results) for name in sorted(names, key=self._place)}

    def _place(self, name: str) -> int:
        known = list(self.metrics)
        metric = name.partition(",")[0]
        return known.index(metric) if metric in known else len(known)

    def _measured(self, name: str, results: list[Result]) -> score.Metric:
        values = [result.values[name] for result in results if name in result.values]
        metric = name.partition(",")[0]
        settings = self.rules.get(metric, {})
        rule = settings.get("aggregation") or default_aggregation(metric)
        if isinstance(rule, Function):
            estimate = Estimate(float(self.code.load(rule)(values)), None, None, len(values))
        else:
            estimate = aggregate(rule, metric, values)
        fraction = rule == "f1" or (rule in MEANS and all(0 <= value <= 1 for value in values))
        better = bool(settings.get("higher_is_better", REGISTERED.get(metric, ("", True))[1]))
        return estimate.metric(higher_is_better=better, percent=fraction)


def _written(prediction: Prediction) -> Written:
    """A prediction as one of texts; score.py refuses one that does not fit its request."""
    assert not isinstance(prediction, Scored)
    return prediction


def _scored(prediction: Prediction) -> Scored:
    """A prediction as one of log-likelihoods; see `_written`."""
    assert isinstance(prediction, Scored)
    return prediction


def _key(metric: str, chain: str) -> str:
    return metric if chain == "none" else f"{metric},{chain}"
