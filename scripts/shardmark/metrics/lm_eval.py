"""Scores of lm-evaluation-harness's tasks, by its rules: filters, metrics of a document, means, groups."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shardmark.errors import Problem, UserError
from shardmark.metrics.lm_eval_filters import FILTERS, exact_match
from shardmark.metrics.statistics import Estimate, estimate_mean
from shardmark.tasks.lm_eval.code import Code, install
from shardmark.tasks.lm_eval.files import Function
from shardmark.tasks.lm_eval.judging import DEFAULTS

Record = dict[str, Any]
DEFAULT_CHAIN = {"name": "none", "filter": [{"function": "take_first"}]}


def judge(lines: list[Record], asked: Record, answers: Record, header: Record) -> tuple[list[Record], Record]:
    """The samples of a task file with their scores, and the metrics. Raises UserError for code that fails."""
    origin, about = header["dataset"]["origin"]["lm_eval"], header["settings"]["lm_eval"]
    code = Code(Path(origin["tasks"]), origin["code"], header["dataset"]["name"], _refused_metric)
    samples: dict[str, list[Record]] = {}
    metrics: dict[str, Record] = {}
    for name, settings in about["tasks"].items():
        own = [line for line in lines if line.get("group", name) == name]
        task = _Task(name, _restored(settings, Path(origin["tasks"])), code)
        try:
            samples[name] = task.judged(own, asked, answers)
            metrics[name] = task.measured(samples[name])
        except (UserError, KeyboardInterrupt):
            raise
        except Exception as error:  # the tasks' own code: any exception may come out
            what = f"{name} cannot be scored: {type(error).__name__}: {error}"
            fix = install(error) if isinstance(error, ModuleNotFoundError) else "mend the task, or leave it out"
            raise UserError(Problem(header["dataset"]["name"], "lm_eval", what, fix)) from error
    judged = [sample for found in samples.values() for sample in found]
    for sample in judged:
        sample.pop("results")
    if not about["groups"]:
        return judged, next(iter(metrics.values()))
    return judged, _groups(about["groups"], metrics)


def _refused_metric(name: str, *values: Any, **options: Any) -> Any:
    raise UserError(Problem("lm_eval", name, f"the task's code wants evaluate's metric {name}", "leave the task out"))


def _restored(value: Any, root: Path) -> Any:
    """A configuration with its functions."""
    if isinstance(value, dict):
        if "!function" in value:
            return Function(root / value["in"], value["!function"])
        return {key: _restored(part, root) for key, part in value.items()}
    return [_restored(part, root) for part in value] if isinstance(value, list) else value


class _Task:
    """How the answers to one task are judged."""

    def __init__(self, name: str, settings: Record, code: Code) -> None:
        self.name, self.code = name, code
        self.kind = settings["output_type"]
        self.repeats = settings["repeats"]
        self.process: Function | None = settings["process_results"]
        self.chains = settings["filter_list"] or [DEFAULT_CHAIN]
        given = settings["metric_list"]
        given = [{"metric": metric} for metric in DEFAULTS[self.kind]] if given is None else given
        self.metrics: dict[str, Record] = {metric["metric"]: metric for metric in given}

    def judged(self, lines: list[Record], asked: Record, answers: Record) -> list[Record]:
        """The samples with the score of each metric and chain of filters."""
        docs = [line["row"] for line in lines]
        found = [answers[line["request"]] for line in lines]
        samples = [_sample(*parts) for parts in zip(lines, (asked[x["request"]] for x in lines), found, strict=True)]
        for number, chain in enumerate(self.chains):
            results = self._results(chain, found, docs)
            for sample, line, result in zip(samples, lines, results, strict=True):
                values = self._values(line, result)
                sample["results"] |= {_key(metric, chain["name"]): value for metric, value in values.items()}
                if self.kind == "generate_until" and not number:
                    sample["answer"] = result[0]
        for sample in samples:
            numbers = {k: v for k, v in sample["results"].items() if isinstance(v, bool | int | float)}
            sample["scores"] = {name: float(value) for name, value in numbers.items()}
        return samples

    def _results(self, chain: Record, predictions: list[Record], docs: list[Any]) -> list[list[Any]]:
        """For each document what lm-eval hands to its metrics."""
        if self.kind != "generate_until":
            return [list(zip(p["logprobs"], p["greedy"], strict=True)) for p in predictions]
        responses: Any = [self._texts(prediction) for prediction in predictions]
        for step in chain["filter"]:
            options = {key: value for key, value in step.items() if key != "function"}
            if isinstance(options.get("filter_fn"), Function):
                options["filter_fn"] = self.code.load(options["filter_fn"])
            function = step["function"]
            if isinstance(function, Function):
                responses = list(self.code.load(function)(**options).apply(responses, docs))
            else:
                responses = FILTERS[function](responses, docs, **options)
        return [[response] for response in responses]

    def _texts(self, prediction: Record) -> list[str]:
        """A greedy answer would be the same each time."""
        if "samples" in prediction:
            return [sample["text"] for sample in prediction["samples"]]
        return [prediction["text"]] * self.repeats

    def _values(self, line: Record, result: list[Any]) -> Record:
        if self.process is not None:
            return dict(self.code.load(self.process)(line["row"], result))
        several = bool(line.get("lm_eval", {}).get("several"))
        if self.kind == "generate_until":
            return {name: self._generated(line, result[0], several, name) for name in self.metrics}
        if self.kind == "loglikelihood":
            ((logprob, greedy),) = result
            values = {"perplexity": logprob, "acc": int(greedy)}
        else:
            values = _choice_values(line["target"], line["choices"], result, several)
        return {name: values[name] for name in self.metrics}

    def _generated(self, line: Record, answer: Any, several: bool, name: str) -> float:
        options = {
            key: value
            for key, value in self.metrics[name].items()
            if key not in ("metric", "aggregation", "higher_is_better", "hf_evaluate")
        }
        target = line["target"]
        if line.get("choices") is not None:
            targets = [line["choices"][target]]
        else:
            targets = list(target) if several else [target]
        return float(any(exact_match(str(answer), str(right), **options) for right in targets))

    def measured(self, samples: list[Record]) -> dict[str, Record]:
        """The metrics over all samples, by name; other than `none`, the chain of filters follows the metric."""
        names = dict.fromkeys(name for sample in samples for name in sample["results"])
        return {name: self._measured(name, samples) for name in sorted(names, key=self._place)}

    def _place(self, name: str) -> int:
        known = list(self.metrics)
        metric = name.partition(",")[0]
        return known.index(metric) if metric in known else len(known)

    def _measured(self, name: str, samples: list[Record]) -> Record:
        values = [sample["results"][name] for sample in samples if name in sample["results"]]
        settings = self.metrics.get(name.partition(",")[0], {})
        default = "perplexity" if name.partition(",")[0] == "perplexity" else "mean"
        aggregation = settings.get("aggregation") or default
        if isinstance(aggregation, Function):
            estimate = Estimate(float(self.code.load(aggregation)(values)), None, None, len(values))
            fraction = False
        else:
            estimate = AGGREGATIONS[aggregation]([float(value) for value in values])
            fraction = aggregation == "mean" and all(0 <= value <= 1 for value in values)
        better = bool(settings.get("higher_is_better", default == "mean"))
        return estimate.as_json() | {"higher_is_better": better, "percent": fraction}


def _key(metric: str, chain: str) -> str:
    return metric if chain == "none" else f"{metric},{chain}"


def _sample(line: Record, request: Record, prediction: Record) -> Record:
    """What a sample file says of a document, without its scores."""
    sample = {"sample": line["sample"], "request": line["request"]}
    if request["kind"] == "generate":
        several = prediction.get("samples", [prediction])
        sample |= {"prompt": request["prompt"], "output": several[0]["text"], "answer": None}
        sample |= {"target": line["target"], "end": several[0]["end"]}
        cut = max(one["cut"] for one in several)
    else:
        choices = line.get("choices") or [continuation for _, continuation in request["pairs"]]
        logprobs = prediction["logprobs"][: len(choices)]
        chosen = logprobs.index(max(logprobs))
        context, continuation = request["pairs"][chosen]
        sample |= {"prompt": context or continuation, "choices": choices, "output": choices[chosen]}
        sample |= {"logprobs": logprobs, "tokens": prediction["tokens"][: len(choices)], "answer": chosen}
        sample |= {"target": line["target"]}
        cut = prediction["cut"]
    group = {"group": line["group"]} if "group" in line else {}
    return sample | {"scores": {}, "results": {}, "truncated": cut, "row": line["row"]} | group


def _choice_values(gold: Any, choices: list[str], result: list[tuple[float, bool]], several: bool) -> Record:
    """lm-eval's metrics of a choice. What is right but no choice counts as wrong."""
    scored = [logprob for logprob, _ in result[: len(choices)]]
    alone = [logprob for logprob, _ in result[len(choices) :]]
    wanted = gold if several and isinstance(gold, list) else [gold]
    right = [choices.index(g) if isinstance(g, str) and g in choices else g for g in wanted]
    right = [int(g) for g in right if isinstance(g, int) and g < len(choices)]
    whole = len(right) == len(wanted)
    values: Record = {
        "acc": float(_first_best(scored) in right),
        "acc_norm": float(_first_best(_divided(scored, [len(c) for c in choices])) in right),
        "acc_bytes": float(
            _first_best(_divided(scored, [len(c.encode(errors="surrogatepass")) for c in choices])) in right
        ),
        "exact_match": int(any(result[g][1] for g in right) and (whole or several)),
    }
    if len(alone) == len(choices):
        values["acc_mutual_info"] = float(_first_best([a - b for a, b in zip(scored, alone, strict=True)]) in right)
    return values


def _divided(values: list[float], lengths: list[int]) -> list[float]:
    return [value / length if length else -math.inf for value, length in zip(values, lengths, strict=True)]


def _first_best(values: list[float]) -> int:
    return values.index(max(values))


def _perplexity(values: list[float]) -> Estimate:
    """exp(-mean): its error follows from that of the mean (delta method), where lm-eval draws samples again."""
    mean = estimate_mean([-value for value in values])
    value = math.exp(mean.value)
    ends = mean.ci95 and (math.exp(mean.ci95[0]), math.exp(mean.ci95[1]))
    return Estimate(value, None if mean.stderr is None else value * mean.stderr, ends, mean.n)


AGGREGATIONS: dict[str, Callable[[list[float]], Estimate]] = {"mean": estimate_mean, "perplexity": _perplexity}


def _groups(groups: list[Record], tasks: dict[str, Record]) -> Record:
    """The aggregates of a group, then those of the groups in it, with their names."""
    found: Record = {}
    for group in groups:
        for aggregate in group["aggregates"]:
            metric = aggregate["metric"]
            names = [
                name for name in dict.fromkeys(n for t in group["tasks"] for n in tasks[t]) if _fits(name, aggregate)
            ]
            for name in names:
                key = name if group is groups[0] else f"{name} ({group['name']})"
                parts = [tasks[task][name] for task in group["tasks"] if name in tasks[task]]
                found[key] = _aggregate(parts, aggregate.get("weight_by_size", True))
            if not names and group is groups[0]:
                what = f"group {group['name']} aggregates {metric}, which none of its tasks has"
                raise UserError(Problem(group["name"], "aggregate_metric_list", what, "correct the group's file"))
    return found


def _fits(name: str, aggregate: Record) -> bool:
    """Whether a metric of a task is one that a group aggregates: all its chains of filters, or those it names."""
    metric, _, chain = name.partition(",")
    wanted = aggregate.get("filter_list")
    wanted = [wanted] if isinstance(wanted, str) else wanted
    return bool(metric == aggregate["metric"] and (wanted is None or (chain or "none") in wanted))


def _aggregate(parts: list[Record], by_size: bool) -> Record:
    """lm-eval's mean over tasks with its standard error: pooled if tasks weigh by size, else of a plain mean."""
    sizes = [part["n"] for part in parts]
    weights = sizes if by_size else [1] * len(parts)
    value = sum(part["value"] * weight for part, weight in zip(parts, weights, strict=True)) / sum(weights)
    errors = [part["stderr"] for part in parts]
    stderr = None
    if None not in errors and by_size and sum(sizes) > len(sizes):
        squares = sum((n - 1) * error**2 * n for n, error in zip(sizes, errors, strict=True))
        stderr = math.sqrt(squares / (sum(sizes) - len(sizes)) / sum(sizes))
    elif None not in errors and not by_size:
        stderr = math.sqrt(sum(error**2 for error in errors)) / len(errors)
    half = None if stderr is None else 1.959963984540054 * stderr
    ends = None if half is None else [value - half, value + half]
    same = {key: parts[0][key] for key in ("higher_is_better", "percent")}
    return {"value": value, "stderr": stderr, "ci95": ends, "n": sum(sizes)} | same
