"""The public names of models, data sets and metrics: ids of the Hub and names of lm-evaluation-harness.

A metric has lm-eval's name only if it is defined as lm-eval's; any other has a name of its own, which is never one that
lm-eval uses for something else.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from shardmark.records.score import Scores
from shardmark.scoring.grouping import MACRO
from shardmark.tasks.lm_eval.judging import REGISTERED

NO_CHAIN = "none"
"lm-eval's name for the chain of filters of a task that has only one."
ACCURACY = {"sum": "acc", "char": "acc_norm", "byte": "acc_bytes"}
"lm-eval's names for accuracy, by how choices are ranked."
SAME = {"exact_match", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "mcc"}
"Metrics with the same name and definition in lm-eval and Shardmark, unless an option changes them."
"The end of the label of a mean over groups."
OF_GROUP = re.compile(r"(?P<metric>.+) \((?P<task>[^()]+)\)")
"A metric of a task, or of a group, within a group of lm-eval's tasks."


class MetricName(NamedTuple):
    """lm-eval's name for one of a pair's metrics."""

    task: str
    metric: str
    chain: str
    scale: float = 1.0
    "The factor for values: lm-eval has BLEU and chrF from 0 to 100."

    @property
    def key(self) -> str:
        """The key of the value among lm-eval's results."""
        return f"{self.metric},{self.chain}"

    @property
    def stderr_key(self) -> str:
        """The key of its standard error."""
        return f"{self.metric}_stderr,{self.chain}"


def metric_names(scores: Scores) -> dict[str, MetricName]:
    """lm-eval's names for a pair's metrics, by label."""
    if "lm_eval" in scores.provenance.rows:
        tasks = task_names(scores)
        return {label: _of_lm_eval(scores.dataset.name, label, tasks) for label in scores.metrics}
    settings = scores.provenance.config.get("dataset", {})
    found: dict[str, MetricName] = {}
    for label in scores.metrics:
        plain = label.removesuffix(MACRO)
        base, _, chain = plain.rpartition(",")
        if not base or chain not in (settings.get("chains") or {}):
            base, chain = plain, NO_CHAIN
        name, scale = _name(base, settings)
        name += "_macro" * (plain != label)
        named = MetricName(scores.dataset.name, name, chain, scale)
        if named in found.values():  # two accuracies, of which one ranks as the data set does
            named = named._replace(metric=_own(label.partition(",")[0]), scale=1.0)
        found[label] = named
    return found


def task_names(scores: Scores) -> dict[str, str]:
    """The exported names of the lm-eval tasks and groups in a data set; empty for any other data set.

    The data set has its own name, which may reflect changes by a run. So do the tasks in it, unless its name is
    lm-eval's name for the group.
    """
    judging = scores.provenance.config.get("dataset", {}).get("lm_eval") or {}
    tasks, groups = list(judging.get("tasks", {})), [group["name"] for group in judging.get("groups", [])]
    top, name = (groups or tasks or [""])[0], scores.dataset.name
    return {part: name if part == top else part if top == name else f"{name}_{part}" for part in [*groups, *tasks]}


def label_of(known: Collection[str], label: str, group: str | None) -> str:
    """The label of the metric that a sample's score belongs to; in a group of lm-eval's tasks, that of its task."""
    of_task = f"{label} ({group})"
    return of_task if of_task in known else label


def _of_lm_eval(dataset: str, label: str, tasks: Mapping[str, str]) -> MetricName:
    """The name of a metric of lm-eval's own tasks, which is lm-eval's; in a group the task follows in brackets."""
    inner = OF_GROUP.fullmatch(label)
    task = dataset
    if inner and inner["task"] in tasks:
        label, task = inner["metric"], tasks[inner["task"]]
    metric, _, chain = label.partition(",")
    return MetricName(task, metric, chain or NO_CHAIN)


def _name(base: str, dataset: Mapping[str, Any]) -> tuple[str, float]:
    """lm-eval's name for a metric of one of Shardmark's data sets, and the scale of its values there."""
    for metric in dataset.get("metrics", []):
        if (metric.get("label") or metric["name"]) == base and (same := _same(metric, dataset)):
            return same
    return _own(base), 1.0


def _same(metric: Mapping[str, Any], dataset: Mapping[str, Any]) -> tuple[str, float] | None:
    """lm-eval's metric with the same definition; None if there is none."""
    name = metric["name"]
    options = {key: value for key, value in metric.items() if key not in ("name", "label", "chain")}
    changed = {key for key, value in options.items() if value is not None and value is not False and value != []}
    if name == "accuracy":
        ranking = metric.get("scoring") or dataset.get("scoring") or "sum"
        return (ACCURACY[ranking], 1.0) if ranking in ACCURACY and not dataset.get("circular") else None
    if name == "brier":
        return "brier_score", 1.0
    if name in SAME and not changed:
        return name, 1.0
    if name == "bleu" and metric.get("tokenize", "13a") == "13a" and not metric.get("ignore_case"):
        return "bleu", 100.0
    if name == "chrf":
        return ("chrf++" if metric.get("word_order") else "chrf"), 100.0
    if name == "f1" and metric.get("average") == "binary" and metric.get("positive", "1") == "1":
        return "f1", 1.0
    return None


def _own(base: str) -> str:
    """A name without characters that have a meaning in lm-eval's keys, and not used by lm-eval for something else."""
    name = re.sub(r"[\s,()]+", "_", base).strip("_")
    return f"shardmark_{name}" if name in REGISTERED or name.endswith("_stderr") else name


def hub_id(scores: Scores) -> str | None:
    """The model's id on the Hub; None if its weights are from elsewhere."""
    match scores.provenance.config.get("weights"):
        case {"kind": "hub", "identity": {"repository": str(repository)}}:
            return repository
    return None


def model_id(scores: Scores) -> str:
    """A model's public name: its id on the Hub, or at its endpoint, or its name. Never a path."""
    settings = scores.provenance.config.get("model", {})
    return hub_id(scores) or (str(settings["model"]) if settings.get("base_url") else scores.model.name)


def hub_dataset(scores: Scores) -> str | None:
    """The id of the data set on the Hub; None if its rows are from a file, or from several repositories."""
    match scores.provenance.rows:
        case {"hub": str(repository)}:
            return repository
        case {"hub": dict(repositories)} if len(repositories) == 1:
            return str(next(iter(repositories)))
    return None


def shots(scores: Scores) -> int | None:
    """How many worked examples precede each question; None if the score does not tell."""
    settings = scores.provenance.config.get("dataset", {})
    if "lm_eval" in settings:
        numbers = {task.get("num_fewshot") or 0 for task in settings["lm_eval"].get("tasks", {}).values()}
        return int(next(iter(numbers))) if len(numbers) == 1 else None
    few_shot = settings.get("few_shot")
    if not few_shot:
        return 0
    return few_shot.get("count") or len(few_shot.get("ids") or few_shot.get("examples") or [])


def place_of_rows(scores: Scores) -> str:
    """The origin of the rows, without folders of this machine: repositories of the Hub, or file names."""
    rows = scores.provenance.rows
    repositories = rows.get("hub")
    if isinstance(repositories, str):
        return repositories
    names = [*(repositories or {}), *rows.get("files", {}), *([rows["file"]] if "file" in rows else [])]
    return ", ".join(str(name).rpartition("/")[2] if name not in (repositories or {}) else name for name in names)
