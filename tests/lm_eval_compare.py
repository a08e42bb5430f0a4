"""Our requests beside lm-eval's, for all of its tasks whose rows are in a data folder."""

import json
import math
import os
import random
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from answered import wrote
from shardmark.config import LmEvalConfig, Named, RunConfig
from shardmark.config.asking import generation_kwargs
from shardmark.errors import UserError
from shardmark.files import read_jsonl
from shardmark.plan.datasets import task_line
from shardmark.records.base import to_json
from shardmark.records.dataset import TaskDataset, TaskHeader
from shardmark.records.origin import LmEvalOrigin, LmEvalTasks
from shardmark.records.prediction import Generated, Prediction, Sampled, Scored
from shardmark.records.request import GenerateRequest, RollingRequest
from shardmark.scoring import lm_eval
from shardmark.scoring.lm_eval import aggregations
from shardmark.tasks import Sample
from shardmark.tasks.lm_eval.code import Code
from shardmark.tasks.lm_eval.data import DataMap, as_dataset, read_data_map
from shardmark.tasks.lm_eval.documents import TEXT, documents
from shardmark.tasks.lm_eval.index import Index, Task, find
from shardmark.tasks.lm_eval.samples import samples
from shardmark.tasks.lm_eval.select import lm_eval_generation, select
from shardmark.tasks.lm_eval.settings import TaskSettings, task_settings
from shardmark.tasks.lm_eval.style import Style
from shardmark.tasks.rows import read_rows

ROOT = Path(__file__).resolve().parent.parent
ORACLE = Path(__file__).with_name("lm_eval_tasks_oracle.py")
SPLITS = ("train", "validation", "test", "dev")
Rows = dict[tuple[str, str | None, str], Any]


def local_tasks(index: Index, data_root: Path) -> tuple[list[Task], DataMap]:
    """The tasks whose scored split is in the data folder."""
    data = read_data_map(ROOT / "config" / "lm_eval" / "data.yaml", data_root)
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


def splits_of(settings: TaskSettings, rows: Rows) -> dict[str, Any]:
    """The splits of a task's data set by name."""
    name = None if settings.dataset_name is None else str(settings.dataset_name)
    return {
        split: found for (hub, config, split), found in rows.items() if (hub, config) == (settings.dataset_path, name)
    }


def ours(
    settings: TaskSettings, rows: Rows, code: Code, limit: int | None, style: Style, chosen: Sequence[int] = ()
) -> list[Any]:
    """What we ask about a task's documents, chats as the oracle has them."""
    found = documents(settings, splits_of(settings, rows), code, settings.task, limit, style, chosen=chosen)
    return json.loads(json.dumps([[tuple(map(_rendered, pair)) for pair in one.arguments] for one in found]))


def _rendered(part: Any) -> Any:
    return json.dumps([to_json(part), part[-1].role != "assistant"]) if isinstance(part, list) else part


def counts_of(task: Task) -> list[int | None]:
    """With how many examples a task is compared: none, 5, and its own number; a task that says 0 is always so asked."""
    own = task.config.get("num_fewshot")
    if own == 0:
        return [0]
    return [0, 5] if own in (None, 5) else [0, 5, None]


def compare(
    tasks: list[Task],
    index: Index,
    data: DataMap,
    limit: int | None,
    here: Path,
    style: Style = TEXT,
    counts: Sequence[int] = (),
    generation: dict[str, Any] | None = None,
    chosen: Sequence[int] = (),
) -> dict[tuple[str, int | None], str]:
    """For each task and number of examples, `identical`, or what differs.

    `generation` is a run's gen_kwargs, `chosen` are the documents that are asked instead of the first.
    """
    rows, _ = rows_of(tasks, data)
    wanted = {task.name: [*counts] or counts_of(task) for task in tasks}
    theirs = oracle(wanted, rows, limit, here, style=style, generation=generation, chosen=chosen)
    code = Code(index.root, True)
    found = {}
    for task in tasks:
        for count in wanted[task.name]:
            there = theirs[task.name, count]
            found[task.name, count] = _verdict(task, count, rows, code, limit, style, there, generation, chosen)
    return found


def _verdict(
    task: Task,
    count: int | None,
    rows: Rows,
    code: Code,
    limit: int | None,
    style: Style,
    theirs: dict[str, Any],
    generation: dict[str, Any] | None,
    chosen: Sequence[int],
) -> str:
    own = lm_eval_generation(generation_kwargs(RunConfig(gen_kwargs=generation or {})))
    try:
        made = ours(task_settings(task, count, own), rows, code, limit, style, chosen)
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


def compare_scores(
    tasks: list[Task], index: Index, data: DataMap, limit: int, here: Path, draws: int = 1000
) -> dict[str, str]:
    """For each task with its own number of examples, `identical`, or how scores of the same responses differ."""
    rows, _ = rows_of(tasks, data)
    outputs, mine, found = {}, {}, {}
    with fewer_draws(draws):
        for task in tasks:
            try:
                outputs[f"{task.name}@None"], mine[task.name] = answered(task, index, rows, limit)
            except UserError as error:
                found[task.name] = f"refused by us: {error.problems[0].what}"
    theirs = oracle({name: [None] for name in mine}, rows, limit, here, outputs, draws)
    return found | {name: same_scores(scores, theirs[name, None]) for name, scores in mine.items()}


@contextmanager
def fewer_draws(draws: int) -> Iterator[None]:
    """lm-eval draws 100,000 times for errors without a formula, which takes it minutes."""
    before, aggregations.DRAWS = aggregations.DRAWS, draws
    try:
        yield
    finally:
        aggregations.DRAWS = before


def same_scores(mine: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Values and standard errors to 11 digits."""
    if "scores" not in theirs:
        return f"refused by lm-eval: {theirs['error']}"
    other = {name.removesuffix(",none"): pair for name, pair in theirs["scores"].items()}
    if other.keys() != mine.keys():
        return f"metrics are {sorted(mine)}, lm-eval's {sorted(other)}"
    for name, pair in other.items():
        found = [mine[name].value, mine[name].stderr]
        if not all(_close(a, b) for a, b in zip(found, pair, strict=True)):
            return f"{name} is {found[0]} +- {found[1]}, lm-eval's {pair[0]} +- {pair[1]}"
    return "identical"


def _close(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=1e-11, abs_tol=1e-14) or (math.isnan(a) and math.isnan(b))


def oracle(
    asked: dict[str, list[int | None]],
    rows: Rows,
    limit: int | None,
    here: Path,
    outputs: Any = None,
    draws: int = 100,
    folder: Path | None = None,
    style: Style = TEXT,
    generation: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    chosen: Sequence[int] = (),
) -> dict[tuple[str, int | None], dict[str, Any]]:
    """What lm-eval makes of these tasks with these rows, by name and number of examples; `folder` has more tasks."""
    parts = []
    for number, ((hub, config, split), dataset) in enumerate(rows.items()):
        file = here / f"rows{number}.json"
        file.write_text(json.dumps(dataset.to_list()))
        parts.append({"hub": hub, "config": config, "split": split, "rows": str(file)})
    job: dict[str, Any] = {"rows": parts, "tasks": asked, "limit": limit, "draws": draws, "style": style._asdict()}
    job |= {"generation": generation, "metadata": metadata, "samples": [*chosen]}
    job |= {"folder": str(folder)} if folder else {}
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


def answered(
    task: Task, index: Index, rows: Rows, limit: int, seed: int = 5, made_up: Callable[..., Any] | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """Made-up responses of a model to a task's requests, as lm-eval takes them, and the metrics we make of them."""
    draw, made_up = random.Random(seed), made_up or _made_up
    (dataset,) = select(Named("t", "", LmEvalConfig(lm_eval=task.name)), index, None, problems := [])
    assert not problems
    code = Code(index.root, True)
    lines, asked, predictions, outputs = [], {}, {}, []
    for sample in samples(dataset, lambda settings: splits_of(settings, rows), code, limit):
        lines.append(task_line(sample))
        asked[sample.request_id] = sample.request
        if sample.request_id not in predictions:
            predictions[sample.request_id] = made_up(draw, sample)
        outputs.append(_as_lm_eval_has_it(sample.request, predictions[sample.request_id]))
    header = lm_eval_header(task.name, index.root, dataset.described())
    return outputs, lm_eval.judge(lines, asked, predictions, header)[1]


def lm_eval_header(name: str, root: Path, settings: dict[str, Any]) -> TaskHeader:
    """What scoring knows of a data set of lm-eval's whose files and code are below `root`."""
    origin = LmEvalOrigin(lm_eval=LmEvalTasks(tasks=str(root), version=None, code=True), files={}, hub={})
    dataset = TaskDataset(name=name, digest="0", origin=origin, rows=0)
    return TaskHeader(dataset=dataset, settings=settings, samples_sha256="")


def _made_up(draw: random.Random, sample: Sample) -> Prediction:
    """Log-likelihoods, or a text that has the right answer in it now and then."""
    request: Any = sample.request
    if isinstance(request, GenerateRequest):
        target = sample.target[0] if isinstance(sample.target, list) else sample.target
        target = sample.row.get("canonical_solution") or sample.row.get("code") or target
        words = ["the answer is", "#### 12", "(A)", "no", str(draw.randint(0, 20)), f"#### {target}", str(target)]
        text = str(target) if draw.random() < 0.4 else " ".join(draw.sample(words, 3))
        return wrote(sample.request_id, text, end="stop")
    count = len(request.pairs)
    logprobs = [draw.uniform(-30, -1) for _ in range(count)]
    greedy = [draw.random() < 0.3 for _ in logprobs]
    return Scored(id=sample.request_id, logprobs=logprobs, tokens=[3] * count, greedy=greedy, cut=0)


def _as_lm_eval_has_it(request: Any, prediction: Prediction) -> list[Any]:
    match prediction:
        case Sampled(samples=samples):
            return [[one.text for one in samples]]
        case Generated(text=text):
            return [text]
        case Scored(logprobs=logprobs, greedy=greedy):
            rolling = isinstance(request, RollingRequest)
            return list(logprobs) if rolling else [list(pair) for pair in zip(logprobs, greedy, strict=True)]
