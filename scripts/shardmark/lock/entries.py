"""The lock's records of a model and of a data set, by the kind of their source.

Kinds stand side by side under a name, so that the lock is the same for those who read a data set from the Hub and for
those who have it in a data_root. Paths are as the configuration spells them, not as they are on this machine.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from shardmark import layout
from shardmark.config import Benchmark, DatasetConfig, ModelConfig, Named
from shardmark.config.dataset import Source
from shardmark.config.search_path import spelt
from shardmark.config.weights import WeightsConfig
from shardmark.config.wording import WordedConfig
from shardmark.errors import Problem, UserError, collecting
from shardmark.files import read_json, sha256
from shardmark.lock.lock import Lock
from shardmark.records.base import find_sealed
from shardmark.records.dataset import DatasetRecord
from shardmark.records.model import Folder, GgufFile, HubRepository, Location, ModelRecord, Service, Staged
from shardmark.records.model import Source as ModelSource
from shardmark.records.origin import HubOrigin, RowsOrigin

Record = dict[str, Any]
MODEL_KINDS: dict[type[ModelSource], str] = {
    HubRepository: "hub",
    Folder: "folder",
    GgufFile: "gguf",
    Service: "service",
}
"The lock's name for each kind of source in a model's record."


def note_all(
    lock: Lock, benchmark: Benchmark, models: Iterable[ModelRecord], datasets: Iterable[DatasetRecord]
) -> list[Problem]:
    """Add everything that a plan has resolved to the lock; returns the problems: in a frozen lock, all changes.

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
        if isinstance(dataset.origin, RowsOrigin):  # plan/lm_eval.py notes its own origins
            note_dataset(lock, dataset.name, settings[dataset.name], dataset.origin, dataset.rows)
    return problems + lock.refusals()


def note_model(lock: Lock, model: Named[ModelConfig], record: ModelRecord, results: Path) -> None:
    """Add a model to the lock. Raises UserError if its chat template cannot be read."""
    source, tokenizer = record.source, record.tokenizer
    if isinstance(source, Service) and not tokenizer:
        return
    entry = model_entry(record)
    key = ("models", model.name, MODEL_KINDS[type(source)])
    words = record.words
    if isinstance(words, Folder):
        where = "tokenizer_path" if tokenizer else "path"
        lock.note(key, entry | {"chat_template": _readable_template(Path(words.path), model.file, where)})
    else:
        lock.note(key, entry, _known_template(record, results))


def model_entry(record: ModelRecord) -> Record:
    """The lock's record of a model, without its chat template."""
    source, tokenizer = record.source, record.tokenizer
    if isinstance(source, Service):
        entry: Record = {"path": source.path}
    elif isinstance(source, GgufFile):
        settings = record.weights
        place = {"path": spelt(settings.gguf_file)} if settings.gguf_file else {"package": settings.gguf_package}
        entry = {**place, "sha256": source.identity.gguf}
    else:
        entry = _location(str(record.weights.path), record.weights.revision, source)
    if tokenizer:
        entry["tokenizer"] = _location(str(record.wording.tokenizer_path), None, tokenizer)
    if adapter := record.adapter:
        entry["adapter"] = _location(str(record.weights.adapter), record.weights.adapter_revision, adapter)
    return entry


def _location(path: str, revision: str | None, found: Location) -> Record:
    if isinstance(found, HubRepository):
        return {"repository": path, "revision": revision or "main", "commit": found.identity.commit}
    return {"path": spelt(path), "files": found.identity}


def _readable_template(folder: Path, file: str, key: str) -> str | None:
    try:
        return chat_template(folder)
    except (ValueError, KeyError, TypeError) as error:
        what = f"{folder} has a chat template that cannot be read: {type(error).__name__}: {error}"
        fix = "chat_template must be a text or a list of {name: ..., template: ...}, in UTF-8"
        raise UserError(Problem(file, key, what, fix)) from error


def tokenizer_here(record: ModelRecord, results: Path) -> Path | None:
    """The folder of a model's tokenizer if it is on this machine: its own folder, or the one it was staged in."""
    if isinstance(record.words, Folder):
        return Path(record.words.path)
    staged = find_sealed(layout.STAGED.file(results, model=record.full_name), Staged)
    return Path(staged.tokenizer) if staged and staged.tokenizer and Path(staged.tokenizer).is_dir() else None


def _known_template(record: ModelRecord, results: Path) -> Record:
    """A tokenizer's chat template; for one that is elsewhere, once all of its files have been staged here."""
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

    As in transformers, template files take precedence over those in tokenizer_config.json.
    """
    files = {"default": folder / "chat_template.jinja"}
    files |= {file.stem: file for file in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    templates = {name: file.read_text("utf-8") for name, file in files.items() if file.is_file()}
    settings = folder / "tokenizer_config.json"
    if not templates and settings.is_file():
        given = read_json(settings).get("chat_template")
        templates = {"default": given} if isinstance(given, str) else {t["name"]: t["template"] for t in given or ()}
    return templates


ADD = 'add meta_template: {round: {user: {end: "\\n"}, assistant: {end: "\\n"}}}, or use the model\'s chat variant'
"An example of what a model without a chat template needs."


def no_template(model: str, dataset: str) -> str:
    """The reason why a model cannot be asked a data set's chats."""
    return f"data set {dataset} asks in chats, but model {model} has neither a chat template nor a meta_template"


def known_template(record: ModelRecord, results: Path) -> Any:
    """A model's template for chats as far as known: None if it has none, false if it is not known yet."""
    words = record.words
    if isinstance(words, Service):
        return record.settings.asks_chats or None
    if given := given_template(record.wording):
        return given
    # A template that cannot be read counts as unknown: its error is reported where it is noted.
    return _known_template(record, results).get("chat_template", False)


def given_template(settings: WordedConfig) -> Any:
    """The template that a model's file gives instead of the tokenizer's own, if any."""
    kwargs = settings.tokenizer_kwargs, settings.chat_template_kwargs
    return settings.meta_template or next((given for part in kwargs if (given := part.get("chat_template"))), None)


def note_dataset(lock: Lock, name: str, settings: DatasetConfig, origin: RowsOrigin, rows: int | None) -> None:
    """Add a data set to the lock; `rows` is the number of rows in its source, None if it was not looked up."""
    kind, record = dataset_record(settings, origin)
    lock.note(("datasets", name, kind), record | ({"rows": rows} if rows is not None else {}))


def dataset_record(settings: DatasetConfig, origin: RowsOrigin) -> tuple[str, Record]:
    """The kind of a data set's source, and the lock's record of it and its examples' source; no number of rows."""
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
    if source.synthetic:
        return "synthetic", {"name": source.synthetic.name, "sha256": origin.sha256}
    kind, path = ("file", spelt(source.file)) if source.file else ("data_root", source.local)
    return kind, {"path": path, "sha256": origin.sha256} | ({"parts": len(origin.files)} if origin.files else {})


def possible_kinds(settings: ModelConfig | DatasetConfig) -> set[str]:
    """The kinds of sources that a model or data set may be read from."""
    if isinstance(settings, WeightsConfig):
        return {"hub", "folder"} if settings.path else {"gguf"}
    if isinstance(settings, ModelConfig):
        return {"service"} if isinstance(settings, WordedConfig) and settings.tokenizer_path else set()
    given = {"hub": settings.source.hub, "data_root": settings.source.local, "file": settings.source.file}
    return {kind for kind, value in given.items() if value} | ({"synthetic"} if settings.source.synthetic else set())
