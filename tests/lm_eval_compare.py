"""Our requests beside lm-eval's, for all of its tasks whose rows are in a data folder."""

import json
import os
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from shardmark.errors import UserError
from shardmark.files import read_jsonl
from shardmark.tasks.lm_eval.code import Code
from shardmark.tasks.lm_eval.data import DataMap, as_dataset, read_data_map
from shardmark.tasks.lm_eval.documents import documents
from shardmark.tasks.lm_eval.index import Index, Task, find
from shardmark.tasks.lm_eval.settings import TaskSettings, task_settings
from shardmark.tasks.rows import read_rows

ROOT = Path(__file__).resolve().parent.parent
ORACLE = Path(__file__).with_name("lm_eval_tasks_oracle.py")
SPLITS = ("train", "validation", "test", "dev")
Rows = dict[tuple[str, str | None, str], Any]


def local_tasks(index: Index, data_root: Path) -> tuple[list[Task], DataMap]:
    """The tasks whose scored split is in the data folder."""
    data = read_data_map(ROOT / "config" / "lm_eval_data.yaml", data_root)
    found = []
    for name in sorted(index.tasks):
        config = index_config(index, name)
        split = config.get("test_split") or config.get("validation_split")
        config_name = config.get("dataset_name")
        hub = config.get("dataset_path")
        if isinstance(hub, str) and hub in data.entries and split:
            there = any(data.part(hub, None if config_name is None else str(config_name), s) for s in SPLITS)
            if there:
                found.append(find(index, name, "")[0])
    return found, data  # type: ignore[return-value]


def index_config(index: Index, name: str) -> dict[str, Any]:
    from shardmark.tasks.lm_eval.files import read_config

    return read_config(index.root / index.tasks[name])


def rows_of(tasks: Iterable[Task], data: DataMap) -> tuple[Rows, set[tuple[str, str | None, str]]]:
    """The rows of all splits that these tasks name, and which are stood in for by another split's.

    Some splits are not in the folder, mostly that for training. Both sides then read the same other one, so that the
    comparison is of draws and prompts all the same.
    """
    found: Rows = {}
    stand_ins = set()
    for task in tasks:
        config = task.config
        hub = config["dataset_path"]
        name = None if config.get("dataset_name") is None else str(config["dataset_name"])
        shots = config.get("fewshot_config") or {}
        keys = ("training_split", "validation_split", "test_split", "fewshot_split")
        for split in {config.get(key) for key in keys} | {shots.get("split")}:
            if split is None or (hub, name, split) in found:
                continue
            part = data.part(hub, name, split)
            if part is None:
                part = next(p for s in ("validation", "test", *SPLITS) if (p := data.part(hub, name, s)))
                stand_ins.add((hub, name, split))
            found[hub, name, split] = as_dataset(_rows(part.file), part.local)
    return found, stand_ins


@lru_cache(maxsize=8)
def _rows(file: Path) -> list[Any]:
    return list(read_rows(file))


def ours(settings: TaskSettings, rows: Rows, code: Code, limit: int) -> list[Any]:
    """The documents that we make of a task."""
    name = None if settings.dataset_name is None else str(settings.dataset_name)
    splits = {
        split: part for (hub, config, split), part in rows.items() if (hub, config) == (settings.dataset_path, name)
    }
    return list(documents(settings, splits, code, settings.task, limit))


def counts_of(task: Task) -> list[int | None]:
    """With how many examples a task is compared: none, 5, and its own number; a task that says 0 is always so asked."""
    own = task.config.get("num_fewshot")
    if own == 0:
        return [0]
    return [0, 5] if own in (None, 5) else [0, 5, None]


def compare(
    tasks: list[Task], index: Index, data: DataMap, limit: int, here: Path
) -> dict[tuple[str, int | None], str]:
    """For each task and number of examples, `identical`, or what differs."""
    rows, _ = rows_of(tasks, data)
    theirs = oracle({task.name: counts_of(task) for task in tasks}, rows, limit, here)
    code = Code(index.root, True)
    found = {}
    for task in tasks:
        for count in counts_of(task):
            found[task.name, count] = _verdict(task, count, rows, code, limit, theirs[task.name, count])
    return found


def _verdict(task: Task, count: int | None, rows: Rows, code: Code, limit: int, theirs: dict[str, Any]) -> str:
    try:
        made = [
            json.loads(json.dumps(document.arguments))
            for document in ours(task_settings(task, count), rows, code, limit)
        ]
    except UserError as error:
        reason = error.problems[0].what
        return f"refused by both: {reason}" if "error" in theirs else f"refused by us: {reason}"
    if "error" in theirs:
        return f"refused by lm-eval: {theirs['error']}"
    if made == theirs["arguments"]:
        return "identical"
    if len(made) != len(theirs["arguments"]):
        return f"{len(made)} documents, lm-eval has {len(theirs['arguments'])}"
    number = next(n for n, (a, b) in enumerate(zip(made, theirs["arguments"], strict=True)) if a != b)
    return f"document {number} differs"


def oracle(
    asked: dict[str, list[int | None]], rows: Rows, limit: int, here: Path, outputs: Any = None
) -> dict[tuple[str, int | None], dict[str, Any]]:
    """What lm-eval makes of these tasks with these rows, by name and number of examples."""
    parts = []
    for number, ((hub, config, split), dataset) in enumerate(rows.items()):
        file = here / f"rows{number}.json"
        file.write_text(json.dumps(dataset.to_list()))
        parts.append({"hub": hub, "config": config, "split": split, "rows": str(file)})
    job: dict[str, Any] = {"rows": parts, "tasks": asked, "limit": limit}
    if outputs is not None:
        (here / "outputs.json").write_text(json.dumps(outputs))
        job["outputs"] = str(here / "outputs.json")
    (here / "job.json").write_text(json.dumps(job))
    command = [os.environ["SHARDMARK_LM_EVAL"], str(ORACLE), str(here / "job.json"), str(here / "out.jsonl")]
    offline = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        "LMEVAL_LOG_LEVEL": "ERROR",
    }
    done = subprocess.run(command, env=offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return {(line["task"], line["shots"]): line for line in read_jsonl(here / "out.jsonl")}
