"""Scores for model repositories on the Hub: .eval_results/*.yaml, which their pages and leaderboards show.

The format is that of https://huggingface.co/docs/hub/eval-results: an entry has a data set of the Hub, one of its tasks
and one value. So only complete data sets of the Hub fit, each with its primary metric.
"""

from pathlib import Path

import yaml

from shardmark.files import write_whole
from shardmark.records.score import Scores
from shardmark.report.pair import Pair

from .finished import Finished, encodable
from .names import hub_dataset, hub_id, metric_names, shots

DEFAULT_TASK = "default"
"The task of a data set without configurations."


def export_hub(finished: Finished, out: Path) -> list[str]:
    """Write {model's id}/.eval_results/{data set}.yaml where it fits, and return what does not, with the reasons."""
    left_out = []
    for pair in finished.scored:
        scores = pair.scores
        why = _why_not(scores)
        if why:
            left_out.append(f"{scores.model.name} on {scores.dataset.name}: {why}")
            continue
        path = out / str(hub_id(scores)) / ".eval_results" / f"{scores.dataset.name}.yaml"
        text = yaml.safe_dump(encodable(_entries(pair)), sort_keys=False, allow_unicode=True)
        write_whole(path, f"# task_id must be one that the data set's eval.yaml has.\n{text}")
    return left_out


def _why_not(scores: Scores) -> str:
    """The reason why a score cannot be on the Hub; empty if it can."""
    if hub_id(scores) is None:
        return "the model is not on the Hub"
    if hub_dataset(scores) is None:
        return "the data set is not on the Hub, or is several of its data sets"
    if scores.dataset.part:
        return f"asked only in part ({scores.dataset.part})"
    if len((scores.provenance.config.get("dataset", {}).get("lm_eval") or {}).get("tasks", {})) > 1:
        return "a group of tasks"
    if scores.main.value is None:
        return "it has no finite value"
    return ""


def _entries(pair: Pair) -> list[dict[str, object]]:
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    scores, metric = pair.scores, pair.scores.main
    rows = scores.provenance.rows
    commit = rows.get("commit") or next(iter(rows["hub"].values()), None)
    value = metric.value or 0.0
    entry = EvalResultEntry(
        dataset_id=str(hub_dataset(scores)),
        task_id=rows.get("config") or DEFAULT_TASK,
        value=round(100 * value, 10) if metric.percent else value,  # 57, not 56.99999999999999
        dataset_revision=commit,
        date=pair.timings.finished if pair.timings else None,
        notes=_notes(scores),
    )
    return list(eval_result_entries_to_yaml([entry]))


def _notes(scores: Scores) -> str:
    """The measured quantity and its conditions, which the value alone does not tell."""
    name, metric = metric_names(scores)[scores.primary], scores.main
    number = shots(scores)
    parts = [
        f"{name.metric}{', %' if metric.percent else ''}",
        f"split {scores.provenance.rows['split']}" if "split" in scores.provenance.rows else "",
        "" if number is None else f"{number}-shot",
        "in chats" if scores.dataset.is_chat else "as text",
        f"model revision {scores.model.revision}" if scores.model.revision else "",
        f"{scores.model.dtype}" if scores.model.dtype else "",
        f"Shardmark {scores.provenance.shardmark}, data set {scores.dataset.name}@{scores.dataset.digest}",
        *scores.counts.remarks(),
    ]
    return "; ".join(filter(None, parts))
