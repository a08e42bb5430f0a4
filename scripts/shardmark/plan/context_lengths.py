"""Whether models' windows hold answers of the length that data sets ask for, checked before anything is loaded."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from shardmark.config.wording import WordedConfig
from shardmark.errors import Problem
from shardmark.files import read_json
from shardmark.records.dataset import DatasetRecord
from shardmark.records.model import Folder, ModelRecord

NAMES = ("max_position_embeddings", "n_positions")
"Keys of config.json for the window, as in the engine; if it has neither, only the engine can tell."


def window_problems(models: Iterable[ModelRecord], datasets: Iterable[DatasetRecord]) -> list[Problem]:
    """A problem for each model whose known window leaves no room for a prompt and the answers of some data sets."""
    datasets = list(datasets)
    return [problem for model in models if (problem := _problem(model, datasets))]


def _problem(model: ModelRecord, datasets: list[DatasetRecord]) -> Problem | None:
    window = known_window(model)
    lengths = {dataset.name: _new_tokens(model, dataset) for dataset in datasets}
    long = {name: length for name, length in lengths.items() if window and length >= window}
    if not long:
        return None
    asked = ", ".join(f"{name}: {length}" for name, length in long.items())
    what = f"the window of model {model.name} is {window} tokens, and new tokens leave no room for a prompt ({asked})"
    if isinstance(settings := model.settings, WordedConfig) and settings.thought_tokens:
        key = "reasoning_tokens" if settings.reasoning_tokens else "reasoning"
        return Problem(model.file, key, what, "set it lower, or the data set's generation.max_new_tokens")
    return Problem(model.file, "max_out_len", what, "set it lower, or the data set's generation.max_new_tokens")


def _new_tokens(model: ModelRecord, dataset: DatasetRecord) -> int:
    """The most tokens of the longest answer."""
    settings = model.settings
    thoughts = settings.thought_tokens if isinstance(settings, WordedConfig) else 0
    return settings.answer_tokens(dataset.longest) + thoughts * bool(dataset.longest)


def known_window(model: ModelRecord) -> int | None:
    """The most tokens that a model reads and writes: its max_seq_len, or the value in its folder on this machine."""
    settings, source = model.settings, model.source
    if not isinstance(settings, WordedConfig):
        return None
    return window_of(settings, Path(source.path) if isinstance(source, Folder) else None)


def window_of(settings: WordedConfig, folder: Path | None) -> int | None:
    """The most tokens that a model with these settings reads and writes; `folder` holds its config.json, if any."""
    if settings.max_seq_len:
        return settings.max_seq_len
    if folder:
        with suppress(OSError, ValueError, TypeError, AttributeError):
            config = read_json(folder / "config.json")
            told = (config.get("text_config") or config) | getattr(settings, "model_kwargs", {})
            return next((int(told[name]) for name in NAMES if told.get(name)), None)
    return None
