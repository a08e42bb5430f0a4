"""What of a task's scoring is there, so that a plan refuses what scoring could not do.

metrics/lm_eval.py does what these names say.
"""

from typing import Any

from shardmark.errors import Problem, nearest
from shardmark.tasks.lm_eval.files import Function
from shardmark.tasks.lm_eval.settings import TaskSettings

DEFAULTS = {
    "multiple_choice": ["acc", "acc_norm"],
    "loglikelihood": ["perplexity", "acc"],
    "loglikelihood_rolling": ["word_perplexity", "byte_perplexity", "bits_per_byte"],
    "generate_until": ["exact_match"],
}
"lm-eval's metrics of a task that names none."

METRICS: dict[str, set[str]] = {
    "multiple_choice": {"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"},
    "loglikelihood": {"acc", "perplexity"},
    "loglikelihood_rolling": set(),
    "generate_until": {"exact_match"},
}
"The metrics there are."

AGGREGATIONS = {"mean", "perplexity"}
"How the values of samples become one, beside functions of the tasks' own."

FILTERS = {
    "regex",
    "multi_choice_regex",
    "remove_whitespace",
    "lowercase",
    "uppercase",
    "map",
    "take_first",
    "take_first_k",
    "majority_vote",
    "custom",
}
"The filters there are, beside classes of the tasks' own."


def metric_list(settings: TaskSettings) -> list[dict[str, Any]]:
    """A task's metrics, each with what it is called and how its values are aggregated."""
    given = settings.metric_list
    if given is None:
        given = [{"metric": name} for name in DEFAULTS[settings.output_type]]
    return [{"aggregation": _aggregation(metric.get("metric")), **metric} for metric in given]


def _aggregation(metric: Any) -> str:
    return "perplexity" if metric == "perplexity" else "mean"


def missing(settings: TaskSettings, where: str) -> list[Problem]:
    """What a task's scoring needs and there is not."""
    problems = []
    if settings.unsafe_code:
        what = f"{settings.task} executes what models write, for which its metric has no sandbox here"
        problems.append(Problem(where, "unsafe_code", what, "use humaneval_gen or mbpp_gen, or leave the task out"))
    known = METRICS[settings.output_type]
    for metric in metric_list(settings):
        name, aggregation = metric.get("metric"), metric["aggregation"]
        if settings.process_results is None and name not in known and not isinstance(name, Function):
            what = f"{settings.task}: there is no metric {name!r} for {settings.output_type}"
            problems.append(Problem(where, "metric_list", what, nearest(str(name), known)))
        elif isinstance(name, Function):
            what = f"{settings.task}: metrics that are functions ({name.name}) are not supported"
            problems.append(Problem(where, "metric_list", what, "leave the task out"))
        elif not isinstance(aggregation, Function) and aggregation not in AGGREGATIONS:
            what = f"{settings.task}: there is no aggregation {aggregation!r} for {name}"
            problems.append(Problem(where, "metric_list", what, nearest(str(aggregation), AGGREGATIONS)))
    for chain in settings.filter_list or ():
        for step in chain.get("filter") or ():
            function = step.get("function")
            if not isinstance(function, Function) and function not in FILTERS:
                what = f"{settings.task}: there is no filter {function!r}"
                problems.append(Problem(where, "filter_list", what, nearest(str(function), FILTERS)))
    return problems
