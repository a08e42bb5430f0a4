"""The supported parts of tasks' scoring, so that a plan refuses tasks that could not be scored.

scoring/lm_eval implements these names.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from shardmark.errors import Problem, nearest
from shardmark.tasks.lm_eval.files import Function
from shardmark.tasks.lm_eval.settings import TaskSettings
from shardmark.tasks.lm_eval.wanted import wanted
from shardmark.tasks.plain import is_numpy

DEFAULTS = {
    "multiple_choice": ["acc", "acc_norm"],
    "loglikelihood": ["perplexity", "acc"],
    "loglikelihood_rolling": ["word_perplexity", "byte_perplexity", "bits_per_byte"],
    "generate_until": ["exact_match"],
}
"lm-eval's metrics for a task that gives none."

REGISTERED: dict[str, tuple[str, bool]] = {
    "acc": ("mean", True),
    "acc_norm": ("mean", True),
    "acc_bytes": ("mean", True),
    "acc_mutual_info": ("mean", True),
    "exact_match": ("mean", True),
    "likelihood": ("mean", True),
    "f1": ("f1", True),
    "mcc": ("matthews_corrcoef", True),
    "brier_score": ("brier_score", False),
    "perplexity": ("perplexity", False),
    "word_perplexity": ("weighted_perplexity", False),
    "byte_perplexity": ("weighted_perplexity", False),
    "bits_per_byte": ("bits_per_byte", False),
    "bleu": ("bleu", True),
    "chrf": ("chrf", True),
    "chrf++": ("chrf++", True),
    "ter": ("ter", False),
    "bypass": ("bypass", True),
}
"lm-eval's aggregation of each of its metrics, and whether more is better, for tasks that do not say."

OWN_KEYS = ("metric", "aggregation", "higher_is_better", "hf_evaluate")
"Keys of an entry of metric_list that are not options of its function."

EVALUATE = {"accuracy", "code_eval", "exact_match", "f1", "rouge"}
"The supported metrics of the package `evaluate`."

METRICS: dict[str, set[str]] = {
    "multiple_choice": {
        "acc",
        "acc_norm",
        "acc_bytes",
        "acc_mutual_info",
        "exact_match",
        "f1",
        "mcc",
        "brier_score",
        "likelihood",
    },
    "loglikelihood": {"acc", "perplexity"},
    "loglikelihood_rolling": {"word_perplexity", "byte_perplexity", "bits_per_byte"},
    "generate_until": REGISTERED.keys() | EVALUATE,
}
"The supported metrics."

AGGREGATIONS = {aggregation for aggregation, _ in REGISTERED.values()} | {"median", "nanmean"}
"The supported aggregations of samples' values, besides functions of the tasks' own."

SCALAR = {"mean", "median", "nanmean", "perplexity"}
"Aggregations that need one number for each sample."

NUMBERS = {"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "perplexity"}
"Metrics with one number for each sample that is not a text; others return the input of their aggregation."

FILTERS = {
    "regex",
    "regex_pos",
    "multi_choice_regex",
    "remove_whitespace",
    "lowercase",
    "uppercase",
    "map",
    "format_span",
    "take_first",
    "take_first_k",
    "majority_vote",
    "custom",
}
"The supported filters, besides classes of the tasks' own."


def choice_number(gold: Any, choices: Sequence[str]) -> int | None:
    """The number of the choice that a right answer gives by number or text; None if it is none of them.

    As lm-eval compares numbers, 1.0 and True are choice 1.
    """
    if isinstance(gold, str):
        return choices.index(gold) if gold in choices else None
    if is_numpy(gold) and gold.size == 1:
        gold = gold.item()
    if isinstance(gold, int | float) and gold in range(len(choices)):
        return int(gold)
    return None


def default_aggregation(metric: object) -> str:
    """lm-eval's aggregation for a metric whose task gives none."""
    return REGISTERED.get(metric, ("mean", True))[0] if isinstance(metric, str) else "mean"


class MetricRule(NamedTuple):
    """An entry of a task's metric_list."""

    metric: Any
    "Its name, or a Function."
    aggregation: Any
    "A name, or a Function."
    higher_is_better: bool | None
    "None if the entry does not say."
    from_evaluate: bool
    "Whether it is a metric of the package `evaluate`."
    options: dict[str, Any]
    "Options that its function is called with."


def metric_rule(entry: dict[str, Any], aggregation: str | None = None) -> MetricRule:
    """The rule in an entry; `aggregation` is the default for an entry that gives none."""
    better = entry.get("higher_is_better")
    return MetricRule(
        metric=entry.get("metric"),
        aggregation=entry.get("aggregation", aggregation),
        higher_is_better=bool(better) if "higher_is_better" in entry else None,
        from_evaluate=bool(entry.get("hf_evaluate")),
        options={key: value for key, value in entry.items() if key not in OWN_KEYS},
    )


def metric_entries(given: list[dict[str, Any]] | None, output_type: str) -> list[dict[str, Any]]:
    """A task's metric_list, or lm-eval's default for its type of output."""
    return [{"metric": name} for name in DEFAULTS[output_type]] if given is None else given


def metric_rules(settings: TaskSettings) -> list[MetricRule]:
    """A task's metrics with their aggregations."""
    entries = metric_entries(settings.metric_list, settings.output_type)
    return [metric_rule(entry, default_aggregation(entry.get("metric"))) for entry in entries]


def missing(settings: TaskSettings, where: str) -> list[Problem]:
    """Problems for parts of a task's scoring that are not supported."""
    return [
        *_unsafe(settings, where),
        *_metrics(settings, where),
        *_wanted(settings, where),
        *_filters(settings, where),
    ]


def _unsafe(settings: TaskSettings, where: str) -> Iterator[Problem]:
    """A problem if models' code is executed by anything but evaluate's code_eval, which runs in the sandbox."""
    if settings.unsafe_code and "code_eval" not in wanted(settings.judging()).metrics:
        what = f"{settings.task} executes what models write in its own way, without a sandbox"
        yield Problem(where, "unsafe_code", what, "use humaneval, mbpp or another task that uses code_eval")


def _metrics(settings: TaskSettings, where: str) -> Iterator[Problem]:
    known = METRICS[settings.output_type]
    for rule in metric_rules(settings):
        name, aggregation = rule.metric, rule.aggregation
        if not isinstance(aggregation, Function) and aggregation not in AGGREGATIONS:
            what = f"{settings.task}: there is no aggregation {aggregation!r} for {_spelt(name)}"
            yield Problem(where, "metric_list", what, nearest(str(aggregation), AGGREGATIONS))
        elif settings.process_results is None:
            if isinstance(name, Function):
                if settings.output_type != "generate_until":
                    what = (
                        f"{settings.task}: metrics that are functions ({name.name}) are supported for generate_until "
                        "only"
                    )
                    yield Problem(where, "metric_list", what, "leave the metric out")
            elif name not in known or (rule.from_evaluate and _generates(settings) and name not in EVALUATE):
                what = f"{settings.task}: there is no metric {name!r} for {settings.output_type}"
                yield Problem(where, "metric_list", what, nearest(str(name), known))
            elif not isinstance(aggregation, Function) and not _fits(settings, rule):
                what = (
                    f"{settings.task}: {name} of {settings.output_type} has no {aggregation}; lm-eval has none either"
                )
                yield Problem(where, "metric_list", what, f"aggregation: {default_aggregation(name)}")


def _fits(settings: TaskSettings, rule: MetricRule) -> bool:
    """Whether an aggregation can read a metric's values for samples. For generated texts, these are the texts."""
    name, aggregation = rule.metric, rule.aggregation
    if aggregation == "bypass":
        return True
    numbers = NUMBERS if not _generates(settings) else {"exact_match"}
    number = name in numbers or (_generates(settings) and (rule.from_evaluate or name not in REGISTERED))
    return bool(number) == (aggregation in SCALAR)


def unfit_for_several(settings: TaskSettings) -> list[str]:
    """Metrics that lm-eval cannot aggregate if a document has several right answers: it keeps no texts then."""
    if settings.process_results is not None or not _generates(settings):
        return []
    texts = AGGREGATIONS - SCALAR - {"bypass"}
    return [_spelt(rule.metric) for rule in metric_rules(settings) if rule.aggregation in texts]


def _generates(settings: TaskSettings) -> bool:
    return settings.output_type == "generate_until"


def _spelt(name: object) -> str:
    return name.name if isinstance(name, Function) else str(name)


def _wanted(settings: TaskSettings, where: str) -> Iterator[Problem]:
    for name in sorted(wanted(settings.judging()).metrics - EVALUATE):
        what = f"{settings.task}: its Python uses the metric {name} of evaluate, which is not available here"
        yield Problem(where, "lm_eval_code", what, "leave the task out")


def _filters(settings: TaskSettings, where: str) -> Iterator[Problem]:
    for chain in settings.filter_list or ():
        for step in chain.get("filter") or ():
            function = step.get("function")
            if not isinstance(function, Function) and function not in FILTERS:
                what = f"{settings.task}: there is no filter {function!r}"
                yield Problem(where, "filter_list", what, nearest(str(function), FILTERS))
