"""A run in the form of lm-evaluation-harness 0.4's logs: results_*.json and samples_*.jsonl, in a folder per model.

It can be read by lm-eval's own code and by readers of its logs. Values are Shardmark's, under lm-eval's names if a
metric has the same definition (`names.py`); facts without a place in lm-eval's files are under the key `shardmark`.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from shardmark.files import write_whole
from shardmark.records.prediction import Prediction, Scored
from shardmark.records.request import Context, GenerateRequest, Request, RollingRequest
from shardmark.records.sample import Sample
from shardmark.records.score import Metric, Scores
from shardmark.report.pair import Pair
from shardmark.report.private import public
from shardmark.tasks.frames import as_sent

from .finished import Asked, Finished, asked_of, encodable, plain_json
from .names import (
    NO_CHAIN,
    MetricName,
    hub_dataset,
    label_of,
    metric_names,
    model_id,
    place_of_rows,
    shots,
    task_names,
)

UNSAFE = str.maketrans(dict.fromkeys('"<>:/|\\?*[]', "__"))
"Characters that lm-eval replaces in folder names."
UNNAMED = re.compile(r"[^\w.-]")
"Characters that are not kept in file names."
MODELS = {"transformers": "hf", "vllm": "vllm", "openai": "local-chat-completions"}
"lm-eval's names of the backends."
OUTPUT_TYPES = {
    "generate": "generate_until",
    "choice": "multiple_choice",
    "loglikelihood": "loglikelihood",
    "rolling": "loglikelihood_rolling",
}
NO_ERROR = "N/A"
"lm-eval's value for a missing standard error."
OWN_TEMPLATE = "(the model's own chat template; Shardmark's scores do not hold its text)"

Json = dict[str, Any]


class _Part(NamedTuple):
    """A pair with the names of its metrics."""

    pair: Pair
    names: dict[str, MetricName]

    @property
    def scores(self) -> Scores:
        return self.pair.scores

    def tasks(self) -> dict[str, dict[MetricName, Metric]]:
        """The metrics of each task; a group of lm-eval's has several tasks."""
        found: dict[str, dict[MetricName, Metric]] = defaultdict(dict)
        for label, metric in self.scores.metrics.items():
            found[self.names[label].task][self.names[label]] = metric
        return found

    @property
    def judging(self) -> Json:
        """The rules of lm-eval's tasks for judging; empty for a data set of Shardmark's."""
        return self.scores.provenance.config.get("dataset", {}).get("lm_eval") or {}

    def own_tasks(self) -> dict[str, Json]:
        """The settings of each of lm-eval's tasks, by its name here."""
        names = task_names(self.scores)
        return {names[task]: {"task": task} | rules for task, rules in self.judging.get("tasks", {}).items()}


def export_lm_eval(finished: Finished, out: Path) -> list[str]:
    """Write the files of all models below a folder, and return what they leave out. Raises UserError."""
    by_model: dict[str, list[_Part]] = defaultdict(list)
    for pair in finished.scored:
        by_model[pair.scores.model.name].append(_Part(pair, metric_names(pair.scores)))
    ids = [model_id(parts[0].scores) for parts in by_model.values()]
    for name, parts in by_model.items():
        known = model_id(parts[0].scores)
        called = known if ids.count(known) == 1 else name
        _write_model(finished, out, called, parts)
    gaps = [f"{gap.model.name} on {gap.dataset.name}: {gap.status}" for gap in finished.scored.gaps]
    return gaps + [
        f"{part.scores.model.name} on {part.scores.dataset.name}: no samples"
        for parts in by_model.values()
        for part in parts
        if part.pair.samples is None
    ]


def _write_model(finished: Finished, out: Path, called: str, parts: list[_Part]) -> None:
    ended = _ended(parts)
    stamp = (ended or datetime.fromtimestamp(0)).strftime("%Y-%m-%dT%H-%M-%S.%f")
    folder = out / called.translate(UNSAFE)
    hashes: dict[str, str] = {}
    for part in parts:
        if part.pair.samples is None:
            continue
        for task, lines in _by_task(part, asked_of(finished, part.pair)).items():
            hashed = "".join(line["doc_hash"] + line["prompt_hash"] + line["target_hash"] for line in lines)
            hashes[task] = _sha256(hashed)
            text = "".join(plain_json(line) + "\n" for line in lines)
            write_whole(folder / f"samples_{UNNAMED.sub('_', task)}_{stamp}.jsonl", text)
    results = _results(finished, called, parts, ended) | {"task_hashes": hashes}
    write_whole(folder / f"results_{stamp}.json", json.dumps(encodable(results), indent=2, ensure_ascii=False))


def _ended(parts: Iterable[_Part]) -> datetime | None:
    times = [part.pair.timings.finished for part in parts if part.pair.timings]
    return max(map(datetime.fromisoformat, times), default=None)


def _results(finished: Finished, called: str, parts: list[_Part], ended: datetime | None) -> Json:
    """One model's results in lm-eval's form."""
    tasks = {task: metrics for part in parts for task, metrics in part.tasks().items()}
    groups, members = _groups(finished, parts)
    first = parts[0].scores
    seconds = [part.pair.timings.seconds for part in parts if part.pair.timings]
    chats = any(part.scores.dataset.is_chat for part in parts)
    return {
        "results": {task: _values(task, metrics) for task, metrics in tasks.items()},
        "groups": groups,
        "group_subtasks": members,
        "configs": public({task: config for part in parts for task, config in _configs(part).items()}),
        "versions": {task: version for part in parts for task, version in _versions(part).items()},
        "n-shot": {task: number for part in parts for task, number in _shots(part).items()},
        "higher_is_better": {
            task: {name.metric: metric.higher_is_better for name, metric in metrics.items()}
            for task, metrics in tasks.items()
        },
        "n-samples": {task: extent for part in parts for task, extent in _extents(part).items()},
        "config": _config(called, first),
        "git_hash": first.provenance.git_commit,
        "date": ended.timestamp() if ended else None,
        "transformers_version": first.provenance.packages.get("transformers"),
        "model_source": _source(first),
        "model_name": called,
        "model_name_sanitized": called.translate(UNSAFE),
        "system_instruction": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": None,
        "chat_template": OWN_TEMPLATE if chats else None,
        "chat_template_sha": None,
        "total_evaluation_time_seconds": str(sum(seconds)),
        "shardmark": public(_own(finished, parts)),
    }


def _own(finished: Finished, parts: list[_Part]) -> Json:
    """Facts without a place among lm-eval's keys."""
    model = parts[0].scores.model
    return {
        "version": parts[0].scores.provenance.shardmark,
        "run": finished.run,
        "model": {"name": parts[0].scores.model.name, "digest": parts[0].scores.model.digest},
        "datasets": {
            part.scores.dataset.name: {
                "digest": part.scores.dataset.digest,
                "limit": part.scores.dataset.part,
                "asked": "chat" if part.scores.dataset.is_chat else "text",
                "metrics": {f"{name.task}: {name.key}": label for label, name in part.names.items()},
                "ci95": {part.names[label].key: metric.ci95 for label, metric in part.scores.metrics.items()},
                "remarks": part.scores.counts.remarks(),
            }
            for part in parts
        },
        "missing": {gap.dataset.name: gap.status for gap in finished.scored.gaps if gap.model.name == model.name},
    }


def _values(task: str, metrics: dict[MetricName, Metric]) -> Json:
    values: Json = {"alias": task, "sample_len": max(metric.n for metric in metrics.values())}
    for name, metric in metrics.items():
        values[name.key] = None if metric.value is None else metric.value * name.scale
        values[name.stderr_key] = NO_ERROR if metric.stderr is None else metric.stderr * name.scale
    return values


def _groups(finished: Finished, parts: list[_Part]) -> tuple[dict[str, Json], dict[str, list[str]]]:
    """The values of groups, and the members of groups; all other tasks have none."""
    model = parts[0].scores.model.name
    groups: dict[str, Json] = {}
    members: dict[str, list[str]] = {task: [] for part in parts for task in part.tasks()}
    for group in finished.scored.groups:
        if pair := finished.scored.grouped.get((model, group.name)):
            metric = MetricName(group.name, pair.scores.primary.replace(" ", "_"), NO_CHAIN)
            groups[group.name] = _values(group.name, {metric: pair.scores.main})
            members[group.name] = list(group.members)
    for part in parts:
        names = task_names(part.scores)
        for inner in part.judging.get("groups", []):
            if metrics := part.tasks().get(name := names[inner["name"]]):
                groups[name] = _values(name, metrics)
                members[name] = [names[task] for task in inner["tasks"] if task in names]
    return groups, members


def _configs(part: _Part) -> dict[str, Json]:
    scores = part.scores
    if own := part.own_tasks():
        return own
    settings = scores.provenance.config.get("dataset", {})
    source = settings.get("source") or {}
    config = {
        "task": scores.dataset.name,
        "dataset_path": hub_dataset(scores) or "json",
        "dataset_name": source.get("config"),
        "test_split": source.get("split") if source.get("hub") else None,
        "output_type": OUTPUT_TYPES.get(scores.dataset.kind, scores.dataset.kind),
        "description": settings.get("preamble") or "",
        "doc_to_text": settings.get("prompt"),
        "doc_to_target": settings.get("target"),
        "doc_to_choice": settings.get("choices"),
        "num_fewshot": shots(scores),
        "repeats": (settings.get("generation") or {}).get("samples", 1),
        "metric_list": [
            {"metric": name.metric, "higher_is_better": scores.metrics[label].higher_is_better}
            for label, name in part.names.items()
        ],
        "metadata": {"version": settings.get("version", 0), "rows": place_of_rows(scores)},
    }
    if scores.dataset.kind == "generate":
        config["generation_kwargs"] = _generation(settings.get("generation") or {})
    return {scores.dataset.name: config}


def _generation(settings: Json) -> Json:
    drawn = bool(settings.get("temperature"))
    kwargs = {"until": settings.get("stop", []), "max_gen_toks": settings.get("max_new_tokens"), "do_sample": drawn}
    return kwargs | {key: settings[key] for key in ("temperature", "top_k", "top_p", "seed") if drawn}


def _versions(part: _Part) -> Json:
    """lm-eval's version of its own tasks; for a data set of Shardmark's the digest, which covers everything."""
    own = part.own_tasks()
    if not own:
        return {part.scores.dataset.name: part.scores.dataset.digest}
    return {task: NO_ERROR if rules.get("version") is None else rules["version"] for task, rules in own.items()}


def _shots(part: _Part) -> dict[str, int]:
    if own := part.own_tasks():
        return {task: rules.get("num_fewshot") or 0 for task, rules in own.items()}
    number = shots(part.scores)
    return {} if number is None else {part.scores.dataset.name: number}


def _extents(part: _Part) -> dict[str, Json]:
    """How many rows each task has, if all were asked, and how many were asked."""
    sizes = {task: max(metric.n for metric in metrics.values()) for task, metrics in part.tasks().items()}
    limited = bool(part.scores.dataset.part)
    return {task: {"original": None if limited else size, "effective": size} for task, size in sizes.items()}


def _source(scores: Scores) -> str:
    settings = scores.provenance.config.get("model", {})
    backend = settings.get("backend", "transformers")
    return "local-completions" if settings.get("api") == "completions" else MODELS.get(backend, backend)


def _config(called: str, scores: Scores) -> Json:
    model = scores.model
    key = "model" if _source(scores).startswith("local-") else "pretrained"
    arguments = {key: called, "revision": model.revision, "dtype": model.dtype}
    return {
        "model": _source(scores),
        "model_args": ",".join(f"{key}={value}" for key, value in arguments.items() if value),
        "model_revision": model.revision,
        "model_dtype": model.dtype,
        "batch_size": "auto",
        "batch_sizes": [],
        "device": "cuda" if model.num_gpus else "cpu",
        "use_cache": None,
        "limit": None,
        "bootstrap_iters": None,
        "gen_kwargs": None,
        "random_seed": None,
        "numpy_seed": None,
        "torch_seed": None,
        "fewshot_seed": None,
    }


def _by_task(part: _Part, asked: Iterable[Asked]) -> dict[str, list[Json]]:
    """The lines of each task's samples file: one for each sample and chain of filters."""
    found: dict[str, list[Json]] = defaultdict(list)
    numbers: dict[str, int] = defaultdict(int)
    names, own = task_names(part.scores), part.own_tasks()
    for each in asked:
        task = names.get(each.sample.group or "", part.scores.dataset.name)
        number = int(each.sample.sample.rpartition("/")[2]) if own else numbers[task]
        found[task] += _lines(part, each, number)
        numbers[task] += 1
    return found


def _lines(part: _Part, asked: Asked, number: int) -> Iterator[Json]:
    sample = asked.sample
    calls = zip(asked.requests, asked.answers, strict=True)
    arguments = [call for request, answer in calls for call in _arguments(request, answer)]
    target = str(encodable(sample.target))
    base: Json = {
        "doc_id": number,
        "doc": sample.row,
        "target": target,
        "arguments": {f"gen_args_{n}": {f"arg_{m}": arg for m, arg in enumerate(a)} for n, a in enumerate(arguments)},
        "resps": _responses(asked),
    }
    hashes = {
        "doc_hash": _sha256(json.dumps(encodable(sample.row), indent=2, ensure_ascii=False, default=str)),
        "prompt_hash": _sha256(str(encodable(arguments[0][0]))),
        "target_hash": _sha256(target),
        "shardmark_sample": sample.sample,
    }
    for chain, scores in _by_chain(part, sample).items():
        values = {name.metric: None if score is None else score * name.scale for name, score in scores.items()}
        filtered = {"filtered_resps": _filtered(asked, chain), "filter": chain, "metrics": list(values)}
        yield base | filtered | hashes | values


def _by_chain(part: _Part, sample: Sample) -> dict[str, dict[MetricName, float | None]]:
    """The sample's scores by chain of filters."""
    found: dict[str, dict[MetricName, float | None]] = defaultdict(dict)
    for label, score in sample.scores.items():
        metric, _, chain = label.partition(",")
        name = part.names.get(label_of(part.names, label, sample.group)) or MetricName("", metric, chain or NO_CHAIN)
        found[name.chain][name] = score
    return found or {NO_CHAIN: {}}


def _arguments(request: Request, answer: Prediction) -> list[tuple[Any, ...]]:
    """The arguments with which lm-eval would call its model."""
    if isinstance(request, GenerateRequest):
        settings = {
            "stop": request.stop,
            "max_new_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            "top_k": request.top_k,
            "top_p": request.top_p,
            "seed": request.seed,
        }
        return [(_text(request.context, answer), _generation(settings))]
    if isinstance(request, RollingRequest):
        return [(request.text,)]
    return [
        (_text(context, answer, number), _text(continuation, answer, number))
        for number, (context, continuation) in enumerate(request.pairs)
    ]


def _text(context: Context, answer: Prediction, choice: int = 0) -> str:
    """A text; for a chat the text that was sent, or its messages as JSON, the form that lm-eval passes to endpoints."""
    if isinstance(context, str):
        return context
    if (sent := as_sent(context, answer, choice)) is not None:
        return sent
    return json.dumps([{"role": message.role, "content": message.content} for message in context], ensure_ascii=False)


def _responses(asked: Asked) -> list[list[Any]]:
    """For each call of a model, its answers as texts, the form that lm-eval writes."""
    found: list[list[Any]] = []
    for request, answer in zip(asked.requests, asked.answers, strict=True):
        if not isinstance(answer, Scored):
            found.append([output.text for output in answer.outputs])
        elif isinstance(request, RollingRequest):
            found.append([str(answer.logprobs[0])])
        else:
            found += [[[*map(str, scored)]] for scored in zip(answer.logprobs, answer.greedy, strict=True)]
    return found


def _filtered(asked: Asked, chain: str) -> list[Any]:
    """The answers after a chain of filters; log-likelihoods stay as they are."""
    sample = asked.sample
    if any(isinstance(answer, Scored) for answer in asked.answers):
        return [response[0] for response in _responses(asked)]
    answers = (sample.answers or {}).get(chain) or (sample.answers or {}).get("") or [sample.answer]
    rotated = [rotation.answer for rotation in sample.rotations]
    return [None if answer is None else str(answer) for answer in rotated or answers]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
