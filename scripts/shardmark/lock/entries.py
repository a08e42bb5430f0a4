"""What the lock keeps of a model and of a data set, by the kind of their source.

Kinds stand side by side under a name, so that the lock is the same for whoever reads a data set from the Hub and for
whoever has it in a data_root. Paths are as the configuration spells them, not as they are on this machine.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from shardmark import layout
from shardmark.config import Benchmark, DatasetConfig, ModelConfig, Named
from shardmark.config.dataset import Source
from shardmark.config.weights import WeightsConfig
from shardmark.errors import Problem, UserError, collecting
from shardmark.files import read_json, sha256
from shardmark.lock.lock import Lock
from shardmark.records.base import find_sealed
from shardmark.records.dataset import DatasetRecord
from shardmark.records.model import Folder, GgufFile, HubRepository, Location, ModelRecord, Service, Staged
from shardmark.records.model import Source as ModelSource
from shardmark.records.origin import HubOrigin, RowsOrigin

Record = dict[str, Any]
MODEL_KINDS: dict[type[ModelSource], str] = {HubRepository: "hub", Folder: "folder", GgufFile: "gguf"}
"A kind of the lock for each kind of source in a model's record."


def note_all(
    lock: Lock, benchmark: Benchmark, models: Iterable[ModelRecord], datasets: Iterable[DatasetRecord]
) -> list[Problem]:
    """Put what a plan has resolved into the lock; what is wrong with it, if the lock is frozen all that would change.

    Models without a file (hf_path) leave no record.
    """
    problems: list[Problem] = []
    results = Path(benchmark.run.results)
    named = {} if benchmark.run.hf_path else {model.name: model for model in benchmark.models}
    for record in models:
        if record.name in named:
            with collecting(problems):
                note_model(lock, named[record.name], record, results)
    settings = {dataset.name: dataset.settings for dataset in benchmark.datasets}
    for dataset in datasets:
        if isinstance(dataset.origin, RowsOrigin):  # plan/lm_eval.py notes its own
            note_dataset(lock, dataset.name, settings[dataset.name], dataset.origin, dataset.rows)
    return problems + lock.refusals()


def note_model(lock: Lock, model: Named[ModelConfig], record: ModelRecord, results: Path) -> None:
    """Put a model into the lock. Raises UserError if its chat template cannot be read."""
    source, tokenizer = record.source, record.tokenizer
    if isinstance(source, Service):
        return
    settings = record.weights
    if isinstance(source, GgufFile):
        place = {"path": settings.gguf_file} if settings.gguf_file else {"package": settings.gguf_package}
        entry: Record = {**place, "sha256": source.identity.gguf}
    else:
        entry = _location(str(settings.path), settings.revision, source)
    if tokenizer:
        entry["tokenizer"] = _location(str(settings.tokenizer_path), None, tokenizer)
    if adapter := record.adapter:
        entry["adapter"] = _location(str(settings.adapter), settings.adapter_revision, adapter)
    key = ("models", model.name, MODEL_KINDS[type(source)])
    words = record.words
    if isinstance(words, Folder):
        where = "tokenizer_path" if tokenizer else "path"
        lock.note(key, entry | {"chat_template": _readable_template(Path(words.path), model.file, where)})
    else:
        lock.note(key, entry, _known_template(record, results))


def _location(path: str, revision: str | None, found: Location) -> Record:
    if isinstance(found, HubRepository):
        return {"repository": path, "revision": revision or "main", "commit": found.identity.commit}
    return {"path": path, "files": found.identity}


def _readable_template(folder: Path, file: str, key: str) -> str | None:
    try:
        return chat_template(folder)
    except (ValueError, KeyError, TypeError) as error:
        what = f"{folder} has a chat template that cannot be read: {type(error).__name__}: {error}"
        fix = "chat_template is a text, or a list of {name: ..., template: ...}; files are UTF-8"
        raise UserError(Problem(file, key, what, fix)) from error


def tokenizer_here(record: ModelRecord, results: Path) -> Path | None:
    """The folder of a model's tokenizer, if that is on this machine: its own, or where it has been staged."""
    if isinstance(record.words, Folder):
        return Path(record.words.path)
    staged = find_sealed(layout.STAGED.file(results, model=record.full_name), Staged)
    return Path(staged.tokenizer) if staged and staged.tokenizer and Path(staged.tokenizer).is_dir() else None


def _known_template(record: ModelRecord, results: Path) -> Record:
    """A tokenizer's chat template; of one that is elsewhere, once its files have been brought here as a whole."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        if folder := tokenizer_here(record, results):
            return {"chat_template": chat_template(folder)}
    return {}


def chat_template(folder: Path) -> str | None:
    """The SHA-256 of a tokenizer's chat templates by name, or None if it has none."""
    templates = chat_templates(folder)
    return sha256(templates) if templates else None


def chat_templates(folder: Path) -> dict[str, str]:
    """A tokenizer's chat templates by name.

    As in transformers, files of their own go before what tokenizer_config.json holds.
    """
    files = {"default": folder / "chat_template.jinja"}
    files |= {file.stem: file for file in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    templates = {name: file.read_text("utf-8") for name, file in files.items() if file.is_file()}
    settings = folder / "tokenizer_config.json"
    if not templates and settings.is_file():
        given = read_json(settings).get("chat_template")
        templates = {"default": given} if isinstance(given, str) else {t["name"]: t["template"] for t in given or ()}
    return templates


ADD = 'add meta_template: {round: {user: {end: "\\n"}, assistant: {end: "\\n"}}}, or take the model\'s chat variant'
"What a model without a chat template needs, for instance."


def no_template(model: str, dataset: str) -> str:
    """Why a model cannot be asked the chats of a data set."""
    return f"data set {dataset} asks chats, and model {model} has neither a chat template nor a meta_template"


def known_template(record: ModelRecord, results: Path) -> Any:
    """What is known of a model's way to put chats into words: None if it has none, false if it is not known yet."""
    words = record.words
    if isinstance(words, Service):
        return True
    if given := given_template(record.weights):
        return given
    # Of a template that cannot be read nothing is known: that is told where it is noted.
    return _known_template(record, results).get("chat_template", False)


def given_template(settings: WeightsConfig) -> Any:
    """The template that a model's file gives in the place of the tokenizer's own, if it does."""
    kwargs = settings.tokenizer_kwargs, settings.chat_template_kwargs
    return settings.meta_template or next((given for part in kwargs if (given := part.get("chat_template"))), None)


def note_dataset(lock: Lock, name: str, settings: DatasetConfig, origin: RowsOrigin, rows: int | None) -> None:
    """Put a data set into the lock; `rows` is how many its source has, None if that was not looked for."""
    kind, record = dataset_record(settings, origin)
    lock.note(("datasets", name, kind), record | ({"rows": rows} if rows is not None else {}))


def dataset_record(settings: DatasetConfig, origin: RowsOrigin) -> tuple[str, Record]:
    """The kind of a data set's source, and what the lock keeps of it and of its examples' source; no number of rows."""
    kind, record = _source_record(settings.source, origin)
    if examples := settings.example_source():
        assert isinstance(origin.few_shot, RowsOrigin)
        record |= {"few_shot": _source_record(examples, origin.few_shot)[1]}
    return kind, record


def _source_record(source: Source, origin: RowsOrigin) -> tuple[str, Record]:
    if isinstance(origin, HubOrigin):
        part = {"config": source.config, "split": source.split}
        return "hub", {
            "repository": source.hub,
            "revision": source.revision or "main",
            "commit": origin.commit,
        } | part
    kind, path = ("file", source.file) if source.file else ("data_root", source.local)
    return kind, {"path": path, "sha256": origin.sha256}


def possible_kinds(settings: ModelConfig | DatasetConfig) -> set[str]:
    """The kinds of sources that a model or data set may be read from."""
    if isinstance(settings, WeightsConfig):
        return {"hub", "folder"} if settings.path else {"gguf"}
    if isinstance(settings, ModelConfig):
        return set()
    given = {"hub": settings.source.hub, "data_root": settings.source.local, "file": settings.source.file}
    return {kind for kind, value in given.items() if value}
