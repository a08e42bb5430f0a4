"""One inference job: answer a shard's requests, keeping every answer that is already there.

Answers are appended to a partial file as they come, so that a job that is killed goes on where it stopped; and before
the model is even loaded, the same model's other files are searched for requests that have been answered before.
"""

import json
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shardmark.engine.devices import lease_gpus
from shardmark.errors import UserError
from shardmark.files import json_line, jsonl, read_json, read_jsonl, write_whole
from shardmark.plan.machine import hardware
from shardmark.plan.predictions import read_predictions, write_predictions

log = logging.getLogger(__name__)
PARTIAL = ".partial"
PACKAGES = ("torch", "transformers", "tokenizers", "accelerate")


def infer_shard(model: Path, staged: Path, requests: Path, out: Path, threads: int) -> None:
    """Write the predictions of a shard's requests to `out`.

    `model` is the plan's record, `staged` says where the weights are. Raises UserError for what the user can mend.
    """
    record = read_json(model)
    wanted = {line.pop("id"): line for line in read_jsonl(requests)}
    partial = out.with_suffix(PARTIAL)
    known = _known(out, wanted.keys())
    missing = {key: request for key, request in wanted.items() if key not in known}
    log.info("%d requests, %d already answered", len(wanted), len(known))
    facts: dict[str, Any] = {"inferred": len(missing), "reused": len(known), "seconds": 0.0, "load_seconds": 0.0}
    started = datetime.now(UTC)
    if missing:
        with lease_gpus(record["settings"]["num_gpus"]) as gpus, _appending(partial) as append:
            facts |= _infer(record, read_json(staged), missing, threads, append, known) | {"gpus": gpus}
    facts |= {
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "batch_size": record["settings"]["batch_size"],
        "hardware": hardware(),
        "packages": {name: version(name) for name in PACKAGES},
    }
    write_predictions(out, [known[key] for key in wanted], facts)
    partial.unlink(missing_ok=True)


def _infer(
    record: dict[str, Any],
    staged: dict[str, str],
    missing: dict[str, Any],
    threads: int,
    append: Any,
    known: dict[str, Any],
) -> dict[str, Any]:
    """Load the model, answer what is missing into `known`; the seconds it took."""
    begin = time.monotonic()
    import torch  # here, because the lease must set CUDA_VISIBLE_DEVICES first, and reused shards need no torch

    from shardmark.engine.answer import Engine
    from shardmark.engine.transformers_backend import TransformersBackend

    torch.set_num_threads(threads)
    engine = Engine(record, TransformersBackend(record, staged))
    loaded = time.monotonic()
    for predictions in _with_progress(engine.answer(missing), len(missing), record["name"]):
        append(predictions)
        known |= {p["id"]: p for p in predictions}
    gpu_names = (
        [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
        if record["settings"]["num_gpus"]
        else []
    )
    return {"load_seconds": loaded - begin, "seconds": time.monotonic() - loaded, "gpu_names": gpu_names}


def _with_progress(batches: Iterable[list[Any]], total: int, title: str) -> Iterator[list[Any]]:
    """A bar on a terminal; in the log, a line now and then."""
    said = time.monotonic()
    with tqdm(total=total, desc=title, unit="request", disable=None, leave=False) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))
            if time.monotonic() - said > 10:
                said = time.monotonic()
                log.info("%d of %d requests", bar.n, total)


def _known(out: Path, wanted: Iterable[str]) -> dict[str, Any]:
    """Predictions of wanted requests in other files of the same model, whole or partial."""
    found: dict[str, Any] = {}
    left = set(wanted)
    for path in _candidates(out):
        if not left:
            break
        for prediction in _lines(path):
            if prediction["id"] in left:
                left.remove(prediction["id"])
                found[prediction["id"]] = prediction
    return found


def _candidates(out: Path) -> Iterator[Path]:
    """Files that may hold a shard's answers, the likeliest first.

    First the shard itself: this job's partial file, and what the model or the data set left under an earlier name.
    Then the other shards of this data set, also those that the model left under an earlier name.
    """
    results, digest = out.parents[2], out.parent.parent.name.rpartition("@")[2]
    for pattern in (f"*@{digest}/*/{out.stem}", f"*@{digest}/{out.parent.name}/*"):
        for suffix in (PARTIAL, ".jsonl"):
            yield from sorted(results.glob(pattern + suffix))


def _lines(path: Path) -> list[dict[str, Any]]:
    """The predictions in a file; of a partial one those before the line at which its writer was killed."""
    if path.suffix != PARTIAL:
        try:
            return list(read_predictions(path)[0].values())
        except UserError as error:
            log.warning("%s", error.problems[0])
            return []
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # its job has just finished
        return []
    lines = []
    for line in data.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return [line for line in lines if isinstance(line, dict) and "id" in line]


@contextmanager
def _appending(path: Path) -> Iterator[Any]:
    """A function that appends predictions to a partial file, after whole lines only."""
    write_whole(path, jsonl(_lines(path) if path.exists() else []))
    with open(path, "a", encoding="utf-8") as file:

        def append(predictions: list[dict[str, Any]]) -> None:
            file.writelines(map(json_line, predictions))
            file.flush()

        yield append
