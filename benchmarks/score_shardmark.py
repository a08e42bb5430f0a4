"""One run of Shardmark's engine: score_shardmark.py JOB.json RESULT.json"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import torch  # noqa: E402
from peak import peak_mib  # noqa: E402

from shardmark.config import Named  # noqa: E402
from shardmark.config.backends.transformers import TransformersConfig  # noqa: E402
from shardmark.engine.local import LocalBackend  # noqa: E402
from shardmark.engine.tokens import encode_pair, fit_window  # noqa: E402
from shardmark.engine.transformers.model import TransformersModel  # noqa: E402
from shardmark.engine.tree import TokenTree  # noqa: E402
from shardmark.lock.lock import Lock  # noqa: E402
from shardmark.plan.models import resolve_model  # noqa: E402
from shardmark.records.base import convert, to_json  # noqa: E402
from shardmark.records.model import ModelRecord, Staged  # noqa: E402
from shardmark.records.prediction import Scored  # noqa: E402
from shardmark.records.request import ChoiceRequest  # noqa: E402
from shardmark.store.hashes import HashCache  # noqa: E402
from shardmark.tasks.requests import request_id  # noqa: E402


def arithmetic(backend: Any, documents: list[Any]) -> dict[str, int]:
    """Multiplications that must be done, and those that a forward pass for each different input does.

    Parameters times tokens: the body's for each distinct prefix, the output layer's after each distinct scored one.
    Attention's products of tokens with tokens, and all that is not a matrix product, are left out on both sides.
    """
    pairs = [encode_pair(backend.tokenizer, *pair) for document in documents for pair in document]
    rows = [fit_window(*pair, backend.window) for pair in pairs]
    tree = TokenTree(rows)
    head = backend.model.get_output_embeddings().weight.numel()
    tables = {id(layer.weight): layer.weight.numel() for layer in (backend.model.get_input_embeddings(),)}
    tables[id(backend.model.get_output_embeddings().weight)] = head
    body = sum(p.numel() for p in backend.model.parameters()) - sum(tables.values())
    whole = sum(map(len, {tuple(row.inputs) for row in rows}))
    return {
        "needed": body * len(tree) + head * len(tree.output_places),
        "without_sharing": (body + head) * whole,
        "tokens": len(tree),
        "tokens_without_sharing": whole,
        "outputs": len(tree.output_places),
    }


def best_product() -> float:
    """Multiplications a CPU second of the fastest of some float32 matrix products, with torch's threads."""
    best = 0.0
    for size in (1024, 2048) * 4:
        one, other = torch.randn(2, size, size)
        begin = time.process_time()
        one @ other
        best = max(best, size**3 / (time.process_time() - begin))
    return best


def planned(job: dict[str, Any]) -> ModelRecord:
    """The plan's record of the model, which hashes its weights."""
    settings = TransformersConfig(
        path=job["model"], num_gpus=0, max_seq_len=job["window"], batch_size=job["batch_size"]
    )
    with tempfile.TemporaryDirectory() as folder:
        lock, hashes = Lock(Path(folder, "no.lock")), HashCache(Path(folder, "no.cache"))
        return resolve_model(Named("model", "model.yaml", settings), lock, hashes)


def main(job: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(job["threads"])
    record = convert(job["record"], ModelRecord) if job["record"] else planned(job)
    staged = Staged(model=job["model"], tokenizer=job["model"])
    model = TransformersModel(record, staged, job["batch_size"])
    if not job["record"]:
        counts = arithmetic(model, job["documents"]) | {"best_product": best_product()}
        return {"record": to_json(record), "arithmetic": counts}
    requests = [ChoiceRequest(pairs=[(pair[0], pair[1]) for pair in document]) for document in job["documents"]]
    ids = [request_id(request) for request in requests]
    asked = dict(zip(ids, requests, strict=True))
    cpu, wall = time.process_time(), time.monotonic()
    done = (p for made in LocalBackend(record, model).answer(asked) for p in made)
    predictions = {p.id: p.logprobs for p in done if isinstance(p, Scored)}
    result: dict[str, Any] = {"inference_cpu": time.process_time() - cpu, "inference_wall": time.monotonic() - wall}
    return result | {"peak_mib": peak_mib(), "scores": [value for key in ids for value in predictions[key]]}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
