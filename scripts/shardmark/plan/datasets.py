"""Stage a data set: its samples as request files and a task file, named by what is in them.

The result is remembered under the digest of everything it was made from, so that the next parse reads one small file
instead of rendering every row again.
"""

import functools
import json
from pathlib import Path
from typing import Any

from shardmark.config import Benchmark, DatasetConfig, Named
from shardmark.files import digest, file_sha256, jsonl, pretty_json, read_json, sha256, write_if_changed
from shardmark.plan.cost import work
from shardmark.plan.lock import Lock
from shardmark.plan.shards import make_shards
from shardmark.tasks import Row, Sample, hub_rows, read_rows, render, rows_file

SOURCES = {".py", ".j2", ".css", ".js"}
LIBRARY = Path(__file__).resolve().parent.parent


@functools.cache
def code_digest(*packages: str) -> str:
    """The digest of the source of parts of this library: what they make changes with it."""
    files = sorted(f for package in packages for f in (LIBRARY / package).rglob("*") if f.suffix in SOURCES)
    return digest({str(path.relative_to(LIBRARY)): file_sha256(path) for path in files})


def plan_dataset(dataset: Named[DatasetConfig], benchmark: Benchmark, lock: Lock) -> dict[str, Any]:
    """The record of a data set: its digest, its samples and its shards, with their files in place.

    Raises UserError for rows that are missing or that cannot be rendered.
    """
    run, results = benchmark.run, Path(benchmark.run.results)
    source = dataset.settings.source
    path = rows_file(source, run.data_root, dataset.file)
    if path:
        origin: dict[str, Any] = {"file": str(path), "sha256": file_sha256(path)}
    else:
        commit = lock.commit("dataset", str(source.hub), source.revision, dataset.file)
        origin = {"hub": str(source.hub), "config": source.config, "split": source.split, "commit": commit}
    settings = dataset.settings.model_dump()
    made_from = {
        "name": dataset.name,
        "settings": settings,
        "rows": origin.get("sha256") or origin,
        "limit": run.limit,
        "max_shard_size": run.max_shard_size,
        "code": code_digest("config", "tasks", "plan", "metrics"),
    }
    memo = results / "plans" / "datasets" / f"{dataset.name}@{digest(made_from)}.json"
    known = read_json(memo) if memo.is_file() else None
    if known and _in_place(known, settings, origin):
        return dict(known)
    rows = read_rows(path) if path else hub_rows(source, origin["commit"], dataset.file)
    record = _stage(dataset, rows, origin, benchmark)
    write_if_changed(memo, pretty_json(record))
    return record


def _in_place(known: dict[str, Any], settings: dict[str, Any], origin: dict[str, Any]) -> bool:
    """Whether the files of a record are there. The task file is not if it tells of another plan's shards.

    What is not judged, such as the size of shards or a description, is in its first line but not in its name.
    """
    if not all(Path(file).is_file() for file in known["files"]):
        return False
    with open(known["files"][-1], "rb") as file:
        header = json.loads(file.readline())
    shards = [shard["name"] for shard in known["shards"]]
    return bool(header["shards"] == shards and header["settings"] == settings and header["dataset"]["origin"] == origin)


def _stage(
    dataset: Named[DatasetConfig], rows: list[Row], origin: dict[str, Any], benchmark: Benchmark
) -> dict[str, Any]:
    run, results = benchmark.run, Path(benchmark.run.results)
    samples = render(dataset.settings, rows, dataset.file, run.limit)
    shards = make_shards(samples, run.max_shard_size, by_id=dataset.settings.id_column is not None)
    files = []
    for shard in shards:
        path = results / "requests" / dataset.name / f"{shard.name}.jsonl"
        write_if_changed(path, jsonl({"id": key, **request} for key, request in shard.requests.items()))
        files.append(str(path))
    judged = dataset.settings.model_dump(exclude={"description", "source", "few_shot"})
    lines = [_task_line(sample) for sample in samples]
    identity = digest([judged, sha256(lines), code_digest("metrics")])
    header = {
        "dataset": {"name": dataset.name, "digest": identity, "origin": origin, "rows": len(rows)},
        "settings": dataset.settings.model_dump(),
        "shards": [shard.name for shard in shards],
    }
    task = results / "tasks" / f"{dataset.name}@{identity}.jsonl"
    write_if_changed(task, jsonl([header, *lines]))
    return {
        "name": dataset.name,
        "digest": identity,
        "file": dataset.file,
        "kind": dataset.settings.kind,
        "samples": len(samples),
        "shards": [{"name": s.name, "requests": len(s.requests), **work(s.requests.values())} for s in shards],
        "files": [*files, str(task)],
    }


def _task_line(sample: Sample) -> dict[str, Any]:
    """What scoring needs to know of a sample, beside the prediction."""
    line = {"sample": sample.id, "request": sample.request_id, "target": sample.target, "row": sample.row}
    return line if sample.choices is None else line | {"choices": sample.choices}
