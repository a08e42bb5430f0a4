"""Small projects in a temporary folder, for tests of the plan: config/, made-up weights and rows."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import settings
from safetensors.numpy import save

from shardmark.config import DatasetConfig
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.errors import Problem, UserError
from shardmark.files import pretty_json, sealed
from shardmark.plan.plan import Plan, make_plan
from shardmark.records.base import Record, to_json
from shardmark.records.dataset import DatasetRecord
from shardmark.records.model import Commit, HubRepository, Location, ModelRecord, Source
from shardmark.records.shard import ShardRecord

property_test = settings(max_examples=60, deadline=None)
"For tests with hypothesis: quick, and no slower machine makes them fail."

ROWS = [{"name": f"n{n}", "question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(5)]
GENERATE = {"kind": "generate", "prompt": "Q: {{ question }}\nA:", "target": "answer", "metrics": ["exact_match"]}
COMMIT = Commit(repository="org/m", commit="c0ffee")


def model_record(
    name: str = "m",
    digest: str = "0",
    source: Source | None = None,
    tokenizer: Location | None = None,
    dtype: str = "float32",
    **settings: Any,
) -> ModelRecord:
    """The record of a model of a million float32 parameters for the CPU, unless more is said."""
    return ModelRecord(
        name=name,
        digest=digest,
        file=f"config/models/{name}.yaml",
        source=source or HubRepository(path="org/m", identity=COMMIT, parameters=1_000_000),
        tokenizer=tokenizer,
        dtype=dtype,
        settings=TransformersConfig.model_validate({"path": "org/m", "num_gpus": 0} | settings),
    )


def dataset_record(**facts: Any) -> DatasetRecord:
    """The record of a small data set that asks for short answers, unless more is said."""
    usual: dict[str, Any] = {
        "name": "demo",
        "digest": "d",
        "file": "config/datasets/demo.yaml",
        "kind": "generate",
        "is_chat": False,
        "samples": 32,
        "rows": 32,
        "requests": 32,
        "head": 0,
        "read": 0,
        "written": 0,
        "longest": 0,
    }
    return DatasetRecord(**(usual | facts))


def shard_record(name: str, requests: int = 1) -> ShardRecord:
    """A shard whose requests take nothing."""
    return ShardRecord(name=name, requests=requests, read=0, written=0)


def write_record(path: Path, record: Record) -> Path:
    """A sealed record, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(pretty_json(sealed(to_json(record))), "utf-8")
    return path


def write_yaml(path: Path, values: Any) -> Path:
    """A YAML file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), "utf-8")
    return path


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    """A JSON-lines file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def safetensors_file(data: bytes) -> bytes:
    """A file of weights with one tensor that holds these bytes."""
    return save({"w": np.frombuffer(data, np.uint8)})


def write_weights(folder: Path, weights: bytes = b"weights") -> Path:
    """A folder that looks like a model to all but an engine."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config.json": b"{}",
        "tokenizer.json": b'{"version": "1.0"}',
        "model.safetensors": safetensors_file(weights),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_model(root: Path, name: str, **keys: Any) -> Path:
    """config/models/{name}.yaml; without a path it gets weights of its own, for the CPU."""
    if "path" not in keys:
        keys["path"] = str(write_weights(root / "weights" / name, name.encode()))
    return write_yaml(root / "config/models" / f"{name}.yaml", {"num_gpus": 0} | keys)


def write_dataset(root: Path, name: str, rows: Iterable[Any] | None = None, **keys: Any) -> Path:
    """config/datasets/{name}.yaml and its rows; without keys, questions to answer in free text."""
    file = write_rows(root / "data" / f"{name}.jsonl", ROWS if rows is None else rows)
    return write_yaml(root / "config/datasets" / f"{name}.yaml", {"source": {"file": str(file)}} | (keys or GENERATE))


def change_yaml(path: Path, **changes: Any) -> None:
    """Set some keys of a YAML file."""
    write_yaml(path, yaml.safe_load(path.read_text("utf-8")) | changes)


def many_rows(count: int = 64) -> list[dict[str, str]]:
    """Rows for several small shards."""
    return [{"name": f"n{n}", "question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(count)]


def run_config(root: Path, **config: Any) -> dict[str, Any]:
    """The configuration of a run of everything in a project, or of what `config` names."""
    return {"models": ["*"], "datasets": ["*"], "results": str(root / "results")} | config


def plan(root: Path, local: bool = True, **config: Any) -> Plan:
    """The plan of everything in a project, or of what `config` names."""
    return make_plan(run_config(root, **config), root, "config/config.yaml", local)


def problems(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> list[Problem]:
    """The problems that a call raises."""
    try:
        function(*arguments, **keywords)
    except UserError as error:
        return error.problems
    raise AssertionError("no UserError")


def dataset_settings(**changes: Any) -> DatasetConfig:
    """Settings of a data set, for tests that bring their own rows."""
    return DatasetConfig.model_validate({"source": {"file": "rows.jsonl"}} | GENERATE | changes)


def choice_settings(**changes: Any) -> DatasetConfig:
    """Settings of a data set with choices."""
    choice = {"kind": "choice", "prompt": "{{ q }}", "choices": "options", "target": "label", "metrics": ["accuracy"]}
    return DatasetConfig.model_validate({"source": {"file": "rows.jsonl"}} | choice | changes)


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and content of each file below a folder."""
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in _all_files(folder)}


def _all_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
