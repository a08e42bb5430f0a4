"""A model's identity: the contents of its files, and the digest of everything that can change its answers."""

import importlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import UNSET, structs

from shardmark import layout
from shardmark.config import ModelConfig, Named
from shardmark.config.weights import WeightsConfig
from shardmark.config.wording import WordedConfig
from shardmark.errors import Problem, UserError
from shardmark.files import digest
from shardmark.lock.lock import Lock
from shardmark.plan.gguf import UNREADABLE, MisreadError, missed, unread_tensors
from shardmark.plan.model_folders import (
    adapter_faults,
    missing_packages,
    missing_quantisers,
    model_faults,
    tokenizer_faults,
)
from shardmark.records.base import to_json
from shardmark.records.model import (
    Commit,
    Folder,
    GgufFile,
    GgufIdentity,
    HubRepository,
    Location,
    ModelRecord,
    Service,
    Source,
)
from shardmark.store.hashes import HashCache

MODEL_FILES = {".safetensors", ".bin", ".json", ".model", ".txt", ".tiktoken", ".jinja", ".py", ".gguf"}
ORIGINAL = "give the model in Hugging Face's format as path"
"The fix for a GGUF file that transformers misreads."


def resolve_model(model: Named[ModelConfig], lock: Lock, hashes: HashCache) -> ModelRecord:
    """The record of a model: its settings, the places and hashes of its files, and its digest. Raises UserError."""
    settings = model.settings
    tokenizer = _tokenizer(model, lock, hashes)
    if not isinstance(settings, WeightsConfig):
        return identified(model, Service(path=settings.place), tokenizer, None)
    files = Named(model.name, model.file, settings)
    source = _source(files, lock, hashes)
    adapter = _location(settings.adapter, "adapter", settings.adapter_revision, model.file, lock, hashes)
    if adapter:
        what, fix = f"{settings.adapter} is not a usable adapter: ", "give a folder that PEFT's save_pretrained wrote"
        _check(adapter, adapter_faults, Problem(model.file, "adapter", what, fix))
    _check_packages(files, source)
    return identified(model, source, tokenizer, adapter)


def identified(
    model: Named[ModelConfig], source: Source, tokenizer: Location | None, adapter: Location | None
) -> ModelRecord:
    """The record of a model from the places and contents of its files."""
    settings = model.settings
    answers = {"protocol": settings.protocol, "backend": settings.backend, **settings.identity()}
    if not isinstance(settings, WeightsConfig):
        answers |= {"tokenizer": to_json(tokenizer.identity)} if tokenizer else {}
        return structs.replace(_record(model, answers, source), tokenizer=tokenizer)
    answers |= {"weights": to_json(source.identity), "tokenizer": tokenizer and to_json(tokenizer.identity)}
    answers |= {"adapter": to_json(adapter.identity)} if adapter else {}
    record = _record(model, answers, source)
    return structs.replace(record, tokenizer=tokenizer, adapter=adapter, dtype=settings.resolved_dtype)


def _record(model: Named[ModelConfig], answers: dict[str, Any], source: Source) -> ModelRecord:
    return ModelRecord(
        name=model.name,
        digest=digest(answers),
        file=model.file,
        source=source,
        tokenizer=None,
        dtype=None,
        settings=model.settings,
    )


def _tokenizer(model: Named[ModelConfig], lock: Lock, hashes: HashCache) -> Location | None:
    """The place of a model's tokenizer, if its file gives one."""
    path = model.settings.tokenizer_path if isinstance(model.settings, WordedConfig) else None
    tokenizer = _location(path, "tokenizer_path", None, model.file, lock, hashes)
    if tokenizer:
        what, fix = f"{path} is not a tokenizer: ", "give the folder that holds it"
        _check(tokenizer, tokenizer_faults, Problem(model.file, "tokenizer_path", what, fix))
    return tokenizer


def _source(model: Named[WeightsConfig], lock: Lock, hashes: HashCache) -> Source:
    settings = model.settings
    if settings.gguf_file or settings.gguf_package:
        path = _gguf(model)
        missing, words = _missed(model, path, hashes)
        identity = GgufIdentity(gguf=hashes.sha256(path), settings=missing or UNSET, tokenizer=words or UNSET)
        return GgufFile(path=str(path), identity=identity, bytes=path.stat().st_size)
    location = _location(settings.path, "path", settings.revision, model.file, lock, hashes)
    assert location is not None  # ModelConfig demands one of path, gguf_file and gguf_package
    fix = "give the folder that holds config.json, tokenizer and weights, or copy them again"
    _check(location, model_faults, Problem(model.file, "path", f"{settings.path} is not a model: ", fix))
    if not settings.tokenizer_path:
        _check(location, tokenizer_faults, Problem(model.file, "path", f"{settings.path} is not a tokenizer: ", fix))
    return location


def _missed(model: Named[WeightsConfig], path: Path, hashes: HashCache) -> tuple[dict[str, Any], dict[str, bool]]:
    """The settings of config.json and of the tokenizer that transformers leaves out of a GGUF file.

    Raises UserError if it would make another model of it.
    """
    try:
        settings, tokens, words = json.loads(hashes.fact(path, missed, "gguf 2 "))
    except UNREADABLE:  # staging tells the reason
        return {}, {}
    except MisreadError as error:
        raise UserError(Problem(model.file, "gguf_file", f"{path}: {error}", ORIGINAL)) from error
    if tokens and not model.settings.tokenizer_path:
        fix = "give the folder of the model's original tokenizer as tokenizer_path"
        raise UserError(Problem(model.file, "gguf_file", f"{path}: transformers does not read {tokens}", fix))
    return settings, {} if model.settings.tokenizer_path else words


def check_dequantised(record: ModelRecord, results: Path, hashes: HashCache) -> None:
    """Raise UserError if what was made of a GGUF file earlier, perhaps before this was checked, lacks tensors of it."""
    if not isinstance(record.source, GgufFile):
        return
    folder = layout.WEIGHTS.folder(results, weights=record.source.identity.folder)
    if folder.is_dir():
        with suppress(*UNREADABLE):  # `verify` finds damaged weights
            make, kind = partial(unread_tensors, folder), f"gguf tensors 1 {folder.name} "
            refuse_unread(record, hashes.fact(Path(record.source.path), make, kind))


def refuse_unread(record: ModelRecord, names: str) -> None:
    """Raise UserError if there are tensors of a GGUF file that its model has no place for."""
    if names:
        what = f"transformers does not read all tensors of {record.source.path}; it leaves out {names}"
        raise UserError(Problem(record.file, "gguf_file", what, ORIGINAL))


def _check_packages(model: Named[WeightsConfig], source: Source) -> None:
    """Raise UserError naming each optional package that a model needs and that is not installed."""
    folder = Path(source.path) if isinstance(source, Folder) else None
    missing = missing_packages(model.settings.adapter, model.settings.model_kwargs, folder)
    if not model.settings.engines():  # vLLM reads them itself
        missing += missing_quantisers(folder)
    if missing:
        raise UserError(
            Problem(model.file, key, f"needs the Python package {package}, which is not installed", fix)
            for key, package, fix in missing
        )


def _check(location: Location, faults: Callable[[Path, set[str]], list[str]], problem: Problem) -> None:
    """Raise UserError if a folder has faults; files on the Hub are checked when they are staged."""
    if not isinstance(location, Folder):
        return
    found = faults(Path(location.path), set(location.identity))
    if found:
        raise UserError(replace(problem, what=problem.what + "; ".join(found)))


def _location(
    path: str | None, key: str, revision: str | None, where: str, lock: Lock, hashes: HashCache
) -> Location | None:
    """A folder with the hashes of its files, or a Hub repository with its commit."""
    if path is None:
        return None
    folder = Path(os.path.expanduser(path))
    if folder.is_dir():
        files = sorted(f for f in folder.iterdir() if f.suffix in MODEL_FILES and f.is_file())
        identity = {f.name: hashes.sha256(f) for f in files}
        return Folder(path=str(folder), identity=identity)
    if folder.is_file():
        fix = "give it as gguf_file" if folder.suffix == ".gguf" else "give the folder that holds it"
        raise UserError(Problem(where, key, f"{path} is a file", fix))
    if path.startswith((".", "/", "~")) or path.count("/") > 1 or folder.exists():
        raise UserError(Problem(where, key, f"no folder {path}", "correct the path, or give a Hub id such as org/name"))
    keys = {"path": key, "revision": "adapter_revision" if key == "adapter" else "revision"}
    try:
        commit = lock.commit("model", path, revision, where)
    except UserError as error:
        raise UserError(replace(each, key=keys.get(each.key, each.key)) for each in error.problems) from error
    return HubRepository(path=path, identity=Commit(repository=path, commit=commit))


def _gguf(model: Named[WeightsConfig]) -> Path:
    """The GGUF file that a model's settings name, or that the package they name assembles."""
    settings = model.settings
    if settings.gguf_package:
        try:
            return Path(importlib.import_module(settings.gguf_package).assemble())
        except ModuleNotFoundError as error:
            fix = "pip install -r envs/requirements-gemma.txt" if "gemma" in settings.gguf_package else "install it"
            what = f"the package {settings.gguf_package} is not installed"
            raise UserError(Problem(model.file, "gguf_package", what, fix)) from error
        except AttributeError as error:
            what = f"the package {settings.gguf_package} contains no GGUF file: it has no function assemble()"
            raise UserError(Problem(model.file, "gguf_package", what, "correct the name, or give gguf_file")) from error
        except (OSError, ValueError) as error:  # for instance a file left behind by an assemble() that was killed
            fix = "delete the file it names and run again"
            raise UserError(Problem(model.file, "gguf_package", str(error), fix)) from error
    path = Path(os.path.expanduser(str(settings.gguf_file)))
    if not path.is_file():
        raise UserError(Problem(model.file, "gguf_file", f"no file {path}", "correct the path"))
    return path
