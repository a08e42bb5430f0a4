"""The values of lm-eval's metrics for one document: mostly a number, else the input of an aggregation."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from shardmark.scoring.lm_eval.evaluate_metrics import METRICS as OF_EVALUATE
from shardmark.tasks.lm_eval.judging import REGISTERED, choice_number

Record = dict[str, Any]
WHITE_SPACE = re.compile(r"\s+")
NO_CHOICE = -100
"The index of a right answer that is not among the choices."


def rolling_values(text: str, logprob: float) -> Record:
    """The log-likelihood of a text with its number of words or bytes, by metric."""
    size = len(text.encode("utf-8", errors="surrogatepass"))
    words = len(WHITE_SPACE.split(text))
    return {"word_perplexity": (logprob, words), "byte_perplexity": (logprob, size), "bits_per_byte": (logprob, size)}


def choice_values(gold: object, choices: list[str], result: list[tuple[float, bool]], several: bool) -> Record:
    """lm-eval's metrics of a choice. A right answer that is not among the choices counts as wrong."""
    scored = [logprob for logprob, _ in result[: len(choices)]]
    alone = [logprob for logprob, _ in result[len(choices) :]]
    wanted = gold if several and isinstance(gold, list) else [gold]
    labels = [_label(one, choices) for one in wanted]
    right = [label for label in labels if label != NO_CHOICE]
    best = _first_best(scored)
    label: Any = labels if several else labels[0]
    values: Record = {
        "acc": float(best in right),
        "acc_norm": float(_first_best(_divided(scored, [len(c) for c in choices])) in right),
        "acc_bytes": float(
            _first_best(_divided(scored, [len(c.encode(errors="surrogatepass")) for c in choices])) in right
        ),
        "exact_match": int(any(result[g][1] for g in right)),
        "f1": (label, best),
        "mcc": (label, best),
        "brier_score": (label, _probabilities(scored)),
        "likelihood": (label, tuple(scored)),
    }
    if len(alone) == len(choices):
        values["acc_mutual_info"] = float(_first_best([a - b for a, b in zip(scored, alone, strict=True)]) in right)
    return values


def _label(gold: object, choices: list[str]) -> int:
    found = choice_number(gold, choices)
    return NO_CHOICE if found is None else found


def _probabilities(logprobs: list[float]) -> list[float]:
    powers = np.exp(np.array(logprobs) - max(logprobs))
    return list((powers / powers.sum()).tolist())


def _divided(values: list[float], lengths: list[int]) -> list[float]:
    return [value / length if length else -math.inf for value, length in zip(values, lengths, strict=True)]


def _first_best(values: list[float]) -> int:
    return values.index(max(values))


Metric = Callable[..., Any]
"A function from predictions and references to a value."


def generated_values(gold: Any, answer: Any, metrics: dict[str, tuple[Metric, Record]], several: bool) -> Record:
    """The value of each metric, with its options, of a generated answer; some give several values by name.

    If there are several right answers, any of them counts, and lm-eval makes a list of the answer for metrics after
    exact_match: so do we.
    """
    if not several and type(gold) is not type(answer) and "bypass" not in metrics and not isinstance(answer, list):
        gold = gold if answer is None else type(answer)(gold)
    golds = gold if isinstance(gold, list) else [gold]
    values: Record = {}
    for name, (metric, options) in metrics.items():
        if not several:
            found = _called(metric, [gold], [answer], options)
        elif name == "exact_match":
            answer = [answer for _ in golds]
            found = float(metric(references=golds, predictions=answer, **options)[name] > 0)
        else:
            each = [_called(metric, [gold], [answer], options) for gold in golds]
            found = float(any(value[name] if isinstance(value, dict) else value for value in each))
        values[name] = found
    return values


def _called(metric: Metric, references: list[Any], predictions: list[Any], options: Record) -> Any:
    """A metric's value. lm-eval's own metrics take the inputs as a pair, and so may those of tasks."""
    try:
        return metric(references=references, predictions=predictions, **options)
    except TypeError:
        return metric([*references, *predictions])


def registered_metric(name: str, from_evaluate: bool) -> Metric:
    """The metric of that name for generated answers. All but exact_match leave the work to their aggregation."""
    if from_evaluate or name == "exact_match" or name not in REGISTERED:
        return OF_EVALUATE[name].compute
    return _nothing if name == "bypass" else _handed_on


def _handed_on(pair: list[Any]) -> list[Any]:
    return pair


def _nothing(pair: list[Any]) -> None:
    return None
