"""The number of a model's parameters, from which the memory and time of its jobs are estimated.

It is no part of a model's identity, and need only be right within a factor of two.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from shardmark import layout
from shardmark.files import read_object
from shardmark.lock.changes import Key
from shardmark.lock.lock import Lock
from shardmark.plan.cost import WIDTHS
from shardmark.records.base import find_sealed
from shardmark.records.model import Commit, Folder, GgufFile, HubRepository, ModelRecord, Service, Staged

QUANTISED = 1
"Bytes per parameter in a GGUF file, and in other quantised weights of unknown width: within a factor of two."
PATIENCE = 10.0
"Seconds for the Hub to answer, after which the run goes on without it."


def with_parameters(records: Iterable[ModelRecord], results: Path, lock: Lock) -> list[ModelRecord]:
    """The records of models, each with the `parameters` of its source (None if unknown).

    They come from the lock, from files on this machine, from an earlier plan, or from the Hub. The Hub is only asked
    about models that have not been downloaded yet, until it fails to answer once, and not if the lock is frozen.
    """
    found, ask = [], not lock.frozen
    for record in records:
        source = record.source
        count = _pinned(record, lock) or _known(record, results)
        if count is None and isinstance(source, HubRepository) and ask:
            try:
                count = _asked(source.identity)
            except Exception:  # those that need the Hub's files will report the reason
                ask = False
            if count:
                lock.learn(_key(record), {"parameters": count})
        found.append(replace(record, source=replace(source, parameters=count)))
    return found


def _key(record: ModelRecord) -> Key:
    return ("models", record.name, "hub")


def _pinned(record: ModelRecord, lock: Lock) -> int | None:
    """The Hub's earlier answer for this commit, from the lock."""
    entry, source = lock.get(_key(record)) or {}, record.source
    same = isinstance(source, HubRepository) and entry.get("commit") == source.identity.commit
    count = entry.get("parameters") if same else None
    return count if isinstance(count, int) else None


def _known(record: ModelRecord, results: Path) -> int | None:
    """The number from files: the weights themselves, or an earlier record."""
    source = record.source
    if isinstance(source, Folder):
        return of_folder(Path(source.path))
    if isinstance(source, Service):
        return None
    staged = find_sealed(layout.STAGED.file(results, model=record.full_name), Staged)
    if staged and staged.model and (count := of_folder(Path(staged.model))):
        return count
    if isinstance(source, GgufFile):
        return int(source.bytes / QUANTISED)
    before = find_sealed(layout.MODELS.file(results, model=record.full_name), ModelRecord)
    return before.parameters if before else None


def of_folder(folder: Path) -> int | None:
    """The parameters of a model's folder, from the sizes of its weights and its config.json; None without weights."""
    for kind in ("*.safetensors", "*.bin"):  # some folders have both, of the same weights
        if size := sum(file.stat().st_size for file in folder.glob(kind) if not file.name.startswith("training_args")):
            return int(size / _width(read_object(folder / "config.json")))
    return None


def _width(config: dict[str, Any]) -> float:
    """Bytes per parameter in files; half precision if config.json gives no dtype."""
    quantised = config.get("quantization_config")
    if isinstance(quantised, dict):
        bits = quantised.get("bits") or (4 if quantised.get("load_in_4bit") else 8 * QUANTISED)
        return bits / 8 if isinstance(bits, int) else QUANTISED
    inner = config.get("text_config")
    told = [part.get(key) for part in (config, inner) if isinstance(part, dict) for key in ("dtype", "torch_dtype")]
    return next((WIDTHS[str(dtype)] for dtype in told if str(dtype) in WIDTHS), WIDTHS["float16"])


def _asked(identity: Commit) -> int | None:
    """The Hub's answer for a repository; None if it has none."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(identity.repository, revision=identity.commit, timeout=PATIENCE)
    return info.safetensors.total if info.safetensors else None
