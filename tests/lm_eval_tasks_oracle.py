"""What lm-eval makes of its tasks, for its own environment: python lm_eval_tasks_oracle.py JOB.json OUT.jsonl

A job is {rows: [{hub, config, split, rows: FILE}], tasks: {name: [0, 5]}, limit: n}: what `datasets.load_dataset` is
to give, and which tasks are asked with how many examples (null: their own number). Each line of the output is {task,
shots, arguments} or {task, shots, error}. With `outputs`, a file of {task@shots: [[response, ...], ...]}, the task's
scores for these responses are there, too: {metric,filter: [value, standard error]}.
"""

import json
import random
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
import evaluate
import numpy as np
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager


def serve(rows: list[dict[str, Any]]) -> None:
    """Let `datasets.load_dataset` give these rows, and nothing else."""
    files: dict[tuple[str, str | None], dict[str, str]] = {}
    for part in rows:
        files.setdefault((part["hub"], part["config"]), {})[part["split"]] = part["rows"]
    made: dict[tuple[str, str | None], Any] = {}

    def load(path: str, name: str | None = None, **options: Any) -> Any:
        key = (path, None if name is None else str(name))
        if key not in made:
            splits = {split: json.loads(Path(file).read_text()) for split, file in files[key].items()}
            columns = {split: {column: None for row in found for column in row} for split, found in splits.items()}
            made[key] = datasets.DatasetDict(
                {
                    split: datasets.Dataset.from_dict({c: [row.get(c) for row in found] for c in columns[split]})
                    for split, found in splits.items()
                }
            )
        return made[key]

    datasets.load_dataset = load


class NoMetric:
    """A metric that is not there: HumanEval and MBPP try theirs out when they are imported, and it would be fetched."""

    def compute(self, *values: Any, **options: Any) -> Any:
        return {}, {}


def ask(task: Any, shots: int | None, own: int | None, limit: int) -> list[Instance]:
    """A task's requests, as `simple_evaluate` builds them with its default seeds."""
    task.set_config("num_fewshot", own or 0)
    if shots is not None and own != 0:
        task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(1234)
    task.build_all_requests(limit=limit, rank=0, world_size=1)
    return list(task.instances)


def judge(task: Any, asked: list[Instance], outputs: list[list[Any]]) -> dict[str, Any]:
    """The task's metrics for these outputs, as `evaluate` computes them."""
    from lm_eval.api.metrics import stderr_for_metric

    scores: dict[str, list[Any]] = {}
    by_doc: dict[int, list[Instance]] = {}
    for instance in asked:
        by_doc.setdefault(instance.doc_id, []).append(instance)
    for n, instances in by_doc.items():
        for instance, output in zip(sorted(instances, key=lambda i: i.idx), outputs[n], strict=True):
            instance.resps = [tuple(output) if isinstance(output, list) else output] * (instance.repeats or 1)
    task._instances = asked
    task.apply_filters()
    for key in asked[0].filtered_resps:
        for instances in by_doc.values():
            instances = sorted(instances, key=lambda i: i.idx)
            found = task.process_results(instances[0].doc, [i.filtered_resps[key] for i in instances])
            for metric, value in found.items():
                scores.setdefault(f"{metric},{key}", []).append(value)
    made = {}
    for name, values in scores.items():
        metric = name.partition(",")[0]
        aggregate = task.aggregation()[metric]
        error = stderr_for_metric(aggregate, bootstrap_iters=100)
        made[name] = [float(aggregate(values)), float(error(values)) if error and len(values) > 1 else None]
    return made


def main(job: dict[str, Any], out: Path) -> None:
    serve(job["rows"])
    fetch = evaluate.load
    evaluate.load = lambda name, *values, **options: (
        NoMetric() if name == "code_eval" else fetch(name, *values, **options)
    )
    utils.env.from_string = lru_cache(maxsize=4096)(
        utils.env.from_string
    )  # it compiles each time, for most of its time
    manager = TaskManager()
    outputs = json.loads(Path(job["outputs"]).read_text()) if job.get("outputs") else {}
    with open(out, "w") as file:
        for name, counts in job["tasks"].items():
            task, problem = None, None
            random.seed(0)
            np.random.seed(1234)
            try:
                task = manager.load([name])["tasks"][name]
            except BaseException as error:
                problem = f"{type(error).__name__}: {error}"
            own = task.get_config("num_fewshot") if task else None
            for shots in counts:
                line: dict[str, Any] = {"task": name, "shots": shots}
                try:
                    if task is None:
                        raise RuntimeError(problem)
                    asked = ask(task, shots, own, job["limit"])
                    documents: dict[int, list[Any]] = {}
                    for instance in asked:
                        documents.setdefault(instance.doc_id, []).append(instance.arguments)
                    line["arguments"] = [documents[n] for n in sorted(documents)]
                    if f"{name}@{shots}" in outputs:
                        line["scores"] = judge(task, asked, outputs[f"{name}@{shots}"])
                except Exception as error:
                    line["error"] = f"{type(error).__name__}: {error}"[:300]
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
