"""Judge the answers to one of lm-eval's tasks, by its rules."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from shardmark.records import score
from shardmark.records.dataset import LmEvalRules, TaskLine
from shardmark.records.prediction import Generated, Prediction, Scored, Written
from shardmark.records.request import GenerateRequest, Request
from shardmark.records.sample import Sample, Steps
from shardmark.scoring.choice import is_tied
from shardmark.scoring.filter_steps import told_steps
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
from shardmark.tasks.frames import pieces_sent
from shardmark.tasks.lm_eval.code import Code
from shardmark.tasks.lm_eval.files import Function
from shardmark.tasks.lm_eval.judging import (
    REGISTERED,
    MetricRule,
    default_aggregation,
    metric_entries,
    metric_rule,
)
from shardmark.tasks.requests import as_text
from shardmark.untrusted.limits import BoundError

Record = dict[str, Any]
DEFAULT_CHAINS: list[Record] = [{"name": "none", "filter": [{"function": "take_first"}]}]
NO_RULE = metric_rule({})
NUMBER = (bool, int, float, np.number, np.bool_)
COMPARED = {"acc_norm": "char", "acc_bytes": "byte"}
"How metrics compare choices (see scoring/choice.py), if not by the sum of log-likelihoods."
MEANS = {"mean", "nanmean", "median"}
"Aggregations whose value is a fraction if all values are."


class Chain(NamedTuple):
    """A chain of filters."""

    name: str
    steps: list[Record] | None

    def filters(self) -> Iterator[tuple[Any, Record]]:
        """Each filter, by its name or as a Function, with its options. Raises ValueError if there are none."""
        if self.steps is None:
            raise ValueError(f"the chain {self.name} of filter_list has no filter")
        for step in self.steps:
            options = dict(step)
            yield options.pop("function"), options


class Result(NamedTuple):
    """A task's result for an answer."""

    answer: Any
    "For generated text, the result of the first chain of filters."
    values: Record
    "By metric and chain of filters: a number, or a value that the metric's aggregation reads."
    steps: Steps
    "For generated text, what each filter did."


class Task:
    """A task's rules. Its own functions are imported when they are needed."""

    def __init__(self, name: str, settings: LmEvalRules, code: Code) -> None:
        self.name, self.code = name, code
        self.kind = settings.output_type
        self.repeats = settings.repeats
        self.process: Function | None = settings.process_results
        self.chains = [Chain(chain["name"], chain.get("filter")) for chain in settings.filter_list or DEFAULT_CHAINS]
        given = map(metric_rule, metric_entries(settings.metric_list, self.kind))
        self.metrics = {self._called(rule): rule for rule in given}
        self.rules = dict(self.metrics)
        self.functions: dict[str, tuple[Metric, Record]] = {}
        if self.process is None and self.kind == "generate_until":
            self.functions = {name: self._function(rule) for name, rule in self.metrics.items()}

    def _called(self, rule: MetricRule) -> str:
        if rule.metric is None:
            raise ValueError("an entry of metric_list has no metric")
        return str(self.code.load(rule.metric).__name__) if isinstance(rule.metric, Function) else str(rule.metric)

    def _function(self, rule: MetricRule) -> tuple[Metric, Record]:
        if isinstance(rule.metric, Function):
            return self.code.load(rule.metric), rule.options
        return registered_metric(rule.metric, rule.from_evaluate), rule.options

    def results(self, lines: list[TaskLine], answers: dict[str, Prediction]) -> list[Result]:
        """For each line the answer, and its value by every metric and chain of filters."""
        docs = [line.row for line in lines]
        found = [answers[line.request] for line in lines]
        results = [Result(None, {}, {}) for _ in lines]
        for number, chain in enumerate(self.chains):
            steps: list[list[list[Any]]] = []
            filtered = self._results(chain, found, docs, steps)
            for doc, (result, line, answer) in enumerate(zip(results, lines, filtered, strict=True)):
                with self._named("metric_list", doc):
                    values = self._values(line, answer)
                result.values.update({_key(metric, chain.name): value for metric, value in values.items()})
                if self.kind == "generate_until":
                    told = steps if number else steps[:-1]  # the sample has the first chain's answer
                    written = _written(found[doc]).outputs
                    most = None if len(written) == 1 else 1  # of several, the sample has the first only
                    kept = [list(step[doc])[:most] for step in told]
                    result.steps[chain.name] = told_steps([written[0].text], kept)
                    results[doc] = result if number else result._replace(answer=answer[0])
        return results

    def samples(
        self,
        lines: list[TaskLine],
        asked: dict[str, Request],
        answers: dict[str, Prediction],
        results: list[Result],
    ) -> list[Sample]:
        """The samples with their scores: the numbers among the results."""
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
                sent=pieces_sent(request.context, prediction),
                output=several[0].text,
                answer=result.answer,
                steps=result.steps,
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
            sent=pieces_sent(context or continuation, prediction, chosen),
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
        """A block whose BoundError names the task, the document and the setting."""
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

    def _results(
        self, chain: Chain, predictions: list[Prediction], docs: list[Any], steps: list[list[list[Any]]]
    ) -> list[list[Any]]:
        """For each document, the input that lm-eval passes to its metrics.

        Adds to `steps` what there was for each document before the first filter of texts, and after each.
        """
        if self.kind == "loglikelihood_rolling":
            return [list(_scored(prediction).logprobs) for prediction in predictions]
        if self.kind != "generate_until":
            return [list(zip(p.logprobs, p.greedy, strict=True)) for p in map(_scored, predictions)]
        responses: Any = [self._texts(prediction) for prediction in predictions]
        steps.append([[*texts] for texts in responses])
        for number, (function, options) in enumerate(chain.filters()):
            if isinstance(own := options.get("filter_fn"), Function):
                options |= {"filter_fn": self.code.load(own)}
            if isinstance(function, Function):
                responses = list(self.code.load(function)(**options).apply(responses, docs))
            else:
                with self._named(f"filter_list.{chain.name}.{number}"):
                    responses = FILTERS[function](responses, docs, **options)
            steps.append([[*each] if isinstance(each, list | tuple) else [each] for each in responses])
        return [[response] for response in responses]

    def _texts(self, prediction: Prediction) -> list[str]:
        """The texts of an answer, repeated for `repeats`: a greedy answer would be the same each time."""
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
        """Values by name; each value of a metric that gives several is aggregated by the metric's rule."""
        flat: Record = {}
        for metric, found in values.items():
            several = found if isinstance(found, dict) else {metric: found}
            for name in several:
                self.rules.setdefault(name, self.metrics[metric])
            flat |= several
        return flat

    def measured(self, results: list[Result]) -> dict[str, score.Metric]:
        """The metrics over all samples, by name; a chain of filters other than `none` follows the metric."""
        names = dict.fromkeys(name for result in results for name in result.values)
        return {name: self._measured(name, results) for name in sorted(names, key=self._place)}

    def _place(self, name: str) -> int:
        known = list(self.metrics)
        metric = name.partition(",")[0]
        return known.index(metric) if metric in known else len(known)

    def _measured(self, name: str, results: list[Result]) -> score.Metric:
        values = [result.values[name] for result in results if name in result.values]
        metric = name.partition(",")[0]
        rule = self.rules.get(metric, NO_RULE)
        aggregation = rule.aggregation or default_aggregation(metric)
        if isinstance(aggregation, Function):
            estimate = Estimate(float(self.code.load(aggregation)(values)), None, None, len(values))
        else:
            estimate = aggregate(aggregation, metric, values)
        fraction = aggregation == "f1" or (
            aggregation in MEANS and all(math.isnan(value) or 0 <= value <= 1 for value in values)
        )
        better = REGISTERED.get(metric, ("", True))[1] if rule.higher_is_better is None else rule.higher_is_better
        return estimate.metric(higher_is_better=better, percent=fraction)


def _written(prediction: Prediction) -> Written:
    """A prediction narrowed to one of texts; score.py refuses one that does not fit its request."""
    assert not isinstance(prediction, Scored)
    return prediction


def _scored(prediction: Prediction) -> Scored:
    """A prediction narrowed to one of log-likelihoods; see `_written`."""
    assert isinstance(prediction, Scored)
    return prediction


def _key(metric: str, chain: str) -> str:
    return metric if chain == "none" else f"{metric},{chain}"
