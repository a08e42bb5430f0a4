"""Answer requests with vLLM, in a Python that has it, for tests that compare: a job on stdin, answers on stdout.

The job names a model's folder and lists (settings of the model, requests); vLLM is loaded once, for the first of them.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from shardmark.config.backends.vllm import VllmConfig
from shardmark.engine.backend import open_backend
from shardmark.engine.local import LocalBackend
from shardmark.engine.vllm.backend import VllmBackend
from shardmark.records.base import convert, to_json
from shardmark.records.engine import VLLM
from shardmark.records.model import Folder, ModelRecord, Staged
from shardmark.records.request import KINDS
from shardmark.tasks.requests import request_id


def main() -> None:
    out = os.dup(1)
    os.dup2(2, 1)  # vLLM's own lines are no answers
    job: dict[str, Any] = json.load(sys.stdin)
    folder = job["folder"]
    loaded: LocalBackend | None = None
    found: list[list[Any]] = []
    for settings, asked in job["batches"]:
        record = ModelRecord(
            name="m",
            digest="0",
            file="m.yaml",
            source=Folder(path=folder, identity={}),
            tokenizer=None,
            dtype="float32",
            settings=VllmConfig(path=folder, num_gpus=0, **settings),
        )
        if loaded is None:
            backend = open_backend(record, Staged(model=folder, tokenizer=folder), lambda: None, VLLM)
            assert isinstance(backend, VllmBackend)
            loaded = backend
        requests = [convert(dict(each), KINDS[each["kind"]]) for each in asked]
        by_id = {request_id(request): request for request in requests}
        answers = LocalBackend(record, loaded.model).answer(by_id)
        found.append([to_json(prediction) for done in answers for prediction in done])
    use = loaded.use() if loaded else None
    with os.fdopen(out, "w") as file:
        json.dump({"answers": found, "use": to_json(use)}, file)


if __name__ == "__main__":
    main()
