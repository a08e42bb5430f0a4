"""Whether a folder holds a model that can be loaded, found out without loading it and before a GPU is taken."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shardmark.files import read_json

INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt"}
TOKENIZER_SUFFIXES = {".model", ".tiktoken"}


def model_faults(folder: Path, files: set[str]) -> list[str]:
    """What is wrong with a folder of weights; `files` are the names in it that belong to a model."""
    return [*_config_faults(folder, files), *_weight_faults(folder, files)]


def tokenizer_faults(folder: Path, files: set[str]) -> list[str]:
    """What is wrong with a folder as a tokenizer's."""
    if not files & TOKENIZER_FILES and not any(Path(file).suffix in TOKENIZER_SUFFIXES for file in files):
        return ["it has no tokenizer (tokenizer.json, tokenizer.model, vocab.json, ...)"]
    return [
        fault for name in sorted(files & TOKENIZER_FILES) if name.endswith(".json") for fault in _json(folder, name)
    ]


def _config_faults(folder: Path, files: set[str]) -> list[str]:
    return _json(folder, "config.json") if "config.json" in files else ["it has no config.json"]


def _json(folder: Path, name: str) -> list[str]:
    """The fault of a file that should hold a JSON object."""
    try:
        value = read_json(folder / name)
    except (OSError, ValueError) as error:
        return [f"{name} is not valid JSON: {error}"]
    return [] if isinstance(value, dict) else [f"{name} is not a JSON object"]


def _weight_faults(folder: Path, files: set[str]) -> Iterator[str]:
    weights = {file for file in files if Path(file).suffix == ".safetensors"}
    if INDEX in files and "model.safetensors" not in files:
        listed = _listed(folder)
        if listed is None:
            yield f"it has no readable {INDEX}"
            return
        yield from (f"it has no {file}" for file in sorted(listed - files))
    elif not weights and not any(Path(file).suffix == ".bin" for file in files):
        yield "it has no weights (*.safetensors)"
    for file in sorted(weights):
        yield from _safetensors_faults(folder / file)


def _listed(folder: Path) -> set[str] | None:
    """The files of weights that an index names."""
    try:
        index: Any = read_json(folder / INDEX)
        return set(index["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _safetensors_faults(path: Path) -> list[str]:
    """The fault of a weight file: its header tells how long it must be, so one that is cut off shows."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            return []
    except (SafetensorError, OSError) as error:
        return [f"{path.name} is damaged or cut off: {error}"]
