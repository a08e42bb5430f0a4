"""The lock's facts about the files of a commit: the Hub's hash and the size of each, and which of them a model needs.

A commit never changes, so these entries are learnt once and never move. All models of a repository share them, and they
need no model: one given as hf_path has them, too.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path

from msgspec import UNSET
from msgspec.structs import replace

from shardmark import layout
from shardmark.config.weights import WeightsConfig
from shardmark.lock.hub import ask_files
from shardmark.lock.lock import Lock
from shardmark.records.base import Unreadable, convert, find_sealed, to_json
from shardmark.records.model import HubFile, HubRepository, ModelRecord, Source
from shardmark.store.hub_cache import listed

Files = Mapping[str, HubFile]

UNUSED = ["*.gguf", "*.onnx", "*.onnx_data", "*.msgpack", "*.h5", "*.ot", "onnx/*", "original/*", "*.md", "*.png"]
"Files of Hub repositories that transformers does not load."

OLDER = ["*.bin", "*.pt", "*.pth", "*.ckpt"]
CONSOLIDATED = "consolidated*"
AGAIN = [*OLDER, CONSOLIDATED]
"Files that repositories keep beside a model's safetensors: the same weights in other formats."

WEIGHTS = ["*.safetensors", *OLDER, "*.index.json"]
"More files that are not wanted from a repository that only provides its tokenizer."

NEVER = [".git*", "*.pdf", "*.jpg"]
"Files that no model loads and no lock needs."


def unwanted(names: Iterable[str], once: bool) -> list[str]:
    """Patterns of the files not wanted from a repository that has these; `once`: take the same weights only once."""
    named = [name for name in names if name.endswith(".safetensors")]
    again = once and not all(fnmatch(name, CONSOLIDATED) for name in named)
    return UNUSED + (AGAIN if again else [])


def without(files: Files, patterns: Iterable[str]) -> dict[str, HubFile]:
    """The files that match none of the patterns."""
    wanted = list(patterns)
    return {name: file for name, file in files.items() if not any(fnmatch(name, pattern) for pattern in wanted)}


def patterns_for(record: ModelRecord, key: str) -> tuple[list[str], bool]:
    """Patterns of unwanted files in the repository at a key of a model's file; and whether to take weights only once.

    Keys are path, tokenizer_path and adapter.
    """
    if key == "tokenizer_path":
        return UNUSED + WEIGHTS, False
    settings = record.settings
    older = isinstance(settings, WeightsConfig) and settings.model_kwargs.get("use_safetensors") is False
    return UNUSED, key == "adapter" or not older


def with_contents(records: Iterable[ModelRecord], results: Path, lock: Lock) -> list[ModelRecord]:
    """The records of models, each with the known facts about the files that it needs from the Hub.

    They come from the lock or from the Hub, which is asked until it first fails to answer. A frozen lock asks nobody
    and learns nothing, but is still compared with the notes of programs that downloaded the files, and of an earlier
    plan.
    """
    asking = _Asking(lock)
    return [_with_contents(record, results, asking) for record in records]


def _with_contents(record: ModelRecord, results: Path, asking: "_Asking") -> ModelRecord:
    on_hub = any(isinstance(place, HubRepository) for place in record.locations)
    before = find_sealed(layout.MODELS.file(results, model=record.full_name), ModelRecord) if on_hub else None
    found: dict[str, Source] = {}
    parts = {"source": "path", "tokenizer": "tokenizer_path", "adapter": "adapter"}
    for part, key in parts.items():
        place = getattr(record, part)
        if isinstance(place, HubRepository) and (files := asking.files(place)):
            patterns, once = patterns_for(record, key)
            needed = without(files, [*patterns, *unwanted(files, once), *NEVER])
            found[part] = replace(place, files=needed or UNSET)
        elif isinstance(place, HubRepository) and before:
            found[part] = replace(place, files=getattr(getattr(before, part), "files", UNSET))
    return replace(record, **found) if found else record


class _Asking:
    """Looks up the files of commits: in the lock, in the cache's own lists, on the Hub."""

    def __init__(self, lock: Lock) -> None:
        self.lock, self.ask = lock, not lock.frozen

    def files(self, place: HubRepository) -> dict[str, HubFile]:
        repository, commit = place.identity.repository, place.identity.commit
        if known := known_files(self.lock, repository, commit):
            return known
        found = listed("model", repository, commit)
        if not found and self.ask:
            try:
                found = ask_files("model", repository, commit)
            except Exception:  # whatever keeps the Hub from answering is reported where its files are needed
                self.ask = False
        if found and not self.lock.frozen:
            kept = without(found, [*UNUSED, *NEVER])
            self.lock.learn_contents("model", repository, commit, {name: to_json(kept[name]) for name in sorted(kept)})
        return found


def known_files(lock: Lock, repository: str, commit: str) -> dict[str, HubFile]:
    """The lock's facts about the files of a model's commit; empty if it was written before it had any."""
    try:
        return convert(lock.contents("model", repository, commit), dict[str, HubFile])
    except Unreadable:
        return {}
