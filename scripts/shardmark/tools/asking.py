"""Ask a planned model requests outside a run, with workers of this process."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from shardmark import layout
from shardmark.engine.worker_client import infer_with_worker
from shardmark.errors import Problem, UserError
from shardmark.files import json_line, write_whole
from shardmark.installation import SCRIPTS
from shardmark.records.base import to_json
from shardmark.records.model import ModelRecord
from shardmark.records.model_brief import read_brief
from shardmark.records.request import Request

STAGE = Path(SCRIPTS) / "stage.py"


def answer(record: ModelRecord, results: Path, asked: Mapping[str, Request], out: Path) -> None:
    """Write a model's answers to `asked`, all of one kind and sorted by their ids, to `out`.

    `out` is the path of a prediction file named by the digest of these ids, in any results folder; its requests are
    written beside it. Raises UserError.
    """
    staged = layout.STAGED.file(results, model=record.full_name)
    _stage(record, results, staged)
    fields = layout.PREDICTIONS.fields(out)
    place = {"dataset": fields["dataset"], "shard": fields["shard"]}
    requests = layout.REQUESTS.file(layout.PREDICTIONS.results(out), **place)
    write_whole(requests, "".join(json_line({"id": key} | to_json(request)) for key, request in asked.items()))
    out.parent.mkdir(parents=True, exist_ok=True)
    model, logs = layout.MODELS.file(results, model=record.full_name), layout.WORKER_LOGS.folder(results)
    threads = min(record.settings.cpus, os.cpu_count() or 1)
    infer_with_worker(read_brief(model), staged, requests, out, threads, os.getpid(), logs)


def _stage(record: ModelRecord, results: Path, staged: Path) -> None:
    if staged.is_file():
        return
    weights = layout.WEIGHTS.file(results, weights="_", file="_").parents[1]
    command = [sys.executable, str(STAGE), "--model", str(layout.MODELS.file(results, model=record.full_name))]
    if subprocess.run([*command, "--weights", str(weights), "--out", str(staged)], check=False).returncode:
        raise UserError(Problem(record.file, "", f"model {record.name} cannot be staged", "see above"))
