"""What lm-eval makes of its tasks, for its own environment: python lm_eval_tasks_oracle.py JOB.json OUT.jsonl

A job is {rows: [{hub, config, split, rows: FILE}], tasks: {name: [0, 5]}, limit: n}: what `datasets.load_dataset` is
to give, and which tasks are asked with how many examples (null: their own number). Each line of the output is {task,
shots, arguments} or {task, shots, error}. With `outputs`, a file of {task@shots: [[response, ...], ...]}, the task's
scores for these responses are there, too: {metric,filter: [value, standard error]}, the error with `draws` bootstraps.
`folder` has more tasks; `metadata` is for those that make their rows; `style` are lm-eval's options for chats, in which
a context is the template's arguments.
"""

import io
import json
import os
import random
import sys
import tempfile
from contextlib import redirect_stdout
from functools import lru_cache
from math import comb
from pathlib import Path
from typing import Any

import datasets
import evaluate
import numpy as np
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

Made = dict[tuple[str, str | None], Any]


def serve(rows: list[dict[str, Any]]) -> Made:
    """Let `datasets.load_dataset` give these rows, and nothing else: from files, so that it keeps what `map` makes."""
    folder = tempfile.mkdtemp(dir=Path(rows[0]["rows"]).parent) if rows else ""
    files: dict[tuple[str, str | None], dict[str, str]] = {}
    for part in rows:
        files.setdefault((part["hub"], part["config"]), {})[part["split"]] = part["rows"]
    made: Made = {}

    def load(path: str, name: str | None = None, split: str | None = None, **options: Any) -> Any:
        key = (path, None if name is None else str(name))
        if key not in made:
            splits = {split: json.loads(Path(file).read_text()) for split, file in files[key].items()}
            columns = {split: {column: None for row in found for column in row} for split, found in splits.items()}
            place = tempfile.mkdtemp(dir=folder)
            datasets.DatasetDict(
                {
                    split: datasets.Dataset.from_dict({c: [row.get(c) for row in found] for c in columns[split]})
                    for split, found in splits.items()
                }
            ).save_to_disk(place)
            made[key] = datasets.load_from_disk(place)
        return made[key] if split is None else made[key][split]

    datasets.load_dataset = load
    return made


class CodeEval:
    """evaluate's code_eval, which would be fetched. The programs are those that the tests make up: no sandbox."""

    def compute(self, predictions: Any, references: Any, k: Any = (1, 10, 100)) -> Any:
        passed = [
            [passes(program, tests) for program in each] for each, tests in zip(predictions, references, strict=True)
        ]
        rates = [
            {size: 1 - comb(len(p) - sum(p), size) / comb(len(p), size) for size in k if size <= len(p)} for p in passed
        ]
        return {f"pass@{size}": float(np.mean([rate[size] for rate in rates])) for size in rates[0]}, {}


def passes(program: str, tests: str) -> bool:
    """Whether a program that is trusted passes its tests."""
    with redirect_stdout(io.StringIO()):
        try:
            exec(program + "\n" + tests, {})
        except BaseException:
            return False
    return True


def chat_template(messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
    """What a model's template would be given."""
    return json.dumps([messages, add_generation_prompt])


def ask(task: Any, shots: int | None, own: int | None, job: dict[str, Any]) -> list[Instance]:
    """A task's requests, as `simple_evaluate` builds them with its default seeds."""
    style, limit = dict(job["style"]), job["limit"]
    seed = style.pop("fewshot_seed")
    if job.get("generation") and task.get_config("output_type") == "generate_until":
        task.set_config(key="generation_kwargs", value=job["generation"], update=True)
    task.set_config("num_fewshot", own or 0)
    if shots is not None and own != 0:
        task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(seed)
    asked = {"limit": limit, "samples": job.get("samples")}
    task.build_all_requests(**asked, rank=0, world_size=1, chat_template=chat_template, **style)
    return list(task.instances)


def judge(task: Any, asked: list[Instance], outputs: list[list[Any]], draws: int) -> dict[str, Any]:
    """The task's metrics for these outputs, as `evaluate` computes them."""
    from lm_eval.evaluator_utils import _compute_task_aggregations

    random.seed(0)
    np.random.seed(1234)

    scores: dict[str, list[Any]] = {}
    by_doc: dict[int, list[Instance]] = {}
    for instance in asked:
        by_doc.setdefault(instance.doc_id, []).append(instance)
    for n, instances in by_doc.items():
        for instance, output in zip(sorted(instances, key=lambda i: i.idx), outputs[n], strict=True):
            instance.resps = resps_of(instance, output)
    task._instances = asked
    task.apply_filters()
    for key in asked[0].filtered_resps:
        for instances in by_doc.values():
            instances = sorted(instances, key=lambda i: i.idx)
            found = task.process_results(instances[0].doc, [i.filtered_resps[key] for i in instances])
            for metric, value in found.items():
                scores.setdefault(f"{metric},{key}", []).append(value)
    raw = {tuple(name.split(",", 1)): values for name, values in scores.items()}
    made, _ = _compute_task_aggregations(task, raw, draws)
    return {name: [number(made[name]), number(made[name.replace(",", "_stderr,", 1)])] for name in scores}


def resps_of(instance: Instance, output: Any) -> list[Any]:
    """A pair of log-likelihood and greedy; or texts, several if they were drawn."""
    if isinstance(output, list) and isinstance(output[0], str):
        return output
    return [tuple(output) if isinstance(output, list) else output] * (instance.repeats or 1)


def number(value: Any) -> float | None:
    return None if value == "N/A" else float(value)


def main(job: dict[str, Any], out: Path) -> None:
    os.environ["DISABLE_MULTIPROC"] = "1"
    made = serve(job["rows"])
    fetch = evaluate.load
    evaluate.load = lambda name, *values, **options: (
        CodeEval() if name == "code_eval" else fetch(name, *values, **options)
    )
    utils.env.from_string = lru_cache(maxsize=4096)(
        utils.env.from_string
    )  # it compiles each time, for most of its time
    manager = TaskManager(include_path=job.get("folder"), metadata=job.get("metadata"))
    outputs = json.loads(Path(job["outputs"]).read_text()) if job.get("outputs") else {}
    with open(out, "w") as file:
        for name, counts in job["tasks"].items():
            for shots in counts:
                line: dict[str, Any] = {"task": name, "shots": shots}
                forget(made)
                random.seed(0)
                np.random.seed(1234)
                try:
                    task = manager.load([name])["tasks"][name]
                except BaseException as error:
                    line["error"] = f"{type(error).__name__}: {error}"[:300]
                    file.write(json.dumps(line) + "\n")
                    continue
                try:
                    asked = ask(task, shots, task.get_config("num_fewshot"), job)
                    documents: dict[int, list[Any]] = {}
                    for instance in asked:
                        documents.setdefault(instance.doc_id, []).append(instance.arguments)
                    line["arguments"] = [documents[n] for n in sorted(documents)]
                    if f"{name}@{shots}" in outputs:
                        line["scores"] = judge(task, asked, outputs[f"{name}@{shots}"], job["draws"])
                except Exception as error:
                    line["error"] = f"{type(error).__name__}: {error}"[:300]
                file.write(json.dumps(line) + "\n")


def forget(made: Made) -> None:
    """Drop the modules of tasks and what `datasets` kept: each task has a run of its own, its first."""
    made.clear()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if (name.startswith("lm_eval.tasks.") and file.count("/lm_eval/tasks/") and name.count(".") > 2) or "/" in name:
            del sys.modules[name]


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
