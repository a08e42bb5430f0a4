"""Everything that the jobs of a plan would find missing, known before the first one starts."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from shardmark.config.backends.transformers import TransformersConfig
from shardmark.config.offline import is_offline
from shardmark.errors import Problem
from shardmark.files import read_object
from shardmark.lock.hub import file_refusal
from shardmark.plan.hub_files import Place, missing, no_room, places, told
from shardmark.records.model import Folder, HubRepository, ModelRecord
from shardmark.store.contents import Fault
from shardmark.store.hub_cache import snapshot

CONFIG = "config.json"


class Needed(NamedTuple):
    """The files that jobs need from a repository on the Hub."""

    place: Place
    files: int
    bytes: int
    missing: list[Fault]


def needed(records: Iterable[ModelRecord]) -> list[Needed]:
    """The files that models need from the Hub; each repository once for each use."""
    found = []
    for place in places(records):
        files = place.files
        sizes = sum(file.size or 0 for file in files.values())
        found.append(Needed(place, len(files), sizes, missing(place)))
    return found


def missing_problems(models: list[ModelRecord]) -> list[Problem]:
    """Everything that is missing for jobs that load these models, except files that staging can download.

    The plan itself checks packages, GPUs, the sandbox, adapters and rows.
    """
    found = needed(models)
    problems = list(_not_here(found) if is_offline() else _not_to_be_had(found))
    return problems + [problem for model in models for problem in remote_code_problems(model)]


def files_not_here(models: Iterable[ModelRecord]) -> list[Problem]:
    """Files of models that are not in the cache if nothing can be downloaded; none if the Hub may be asked."""
    return list(_not_here(needed(models))) if is_offline() else []


def _not_here(found: Iterable[Needed]) -> Iterator[Problem]:
    """Files that are not in the cache if nothing can be downloaded."""
    for need in found:
        identity, where, key = need.place.repository.identity, need.place.model.file, need.place.key
        fetch = f"`hf download {identity.repository} --revision {identity.commit}`"
        fix = f"where there is a network: `snakemake stage --profile local`, or {fetch}; then copy its HF_HOME"
        if need.missing:
            yield Problem(where, key, f"{identity.repository}@{identity.commit}: {told(need.missing)} missing", fix)
        elif not need.files:
            what = f"{identity.repository}@{identity.commit}: none of it is in the Hub's cache"
            yield Problem(where, key, what, fix)


def _not_to_be_had(found: list[Needed]) -> Iterator[Problem]:
    """Files that the Hub refuses to this user, and a problem if the disk has no room for all files."""
    wanted = {need.place.folder: need for need in found if need.missing}
    for need in wanted.values():
        place = need.place
        first = min(need.missing, key=lambda fault: fault.size or 0).path.relative_to(place.folder).as_posix()
        identity = place.repository.identity
        if refused := file_refusal(identity.repository, identity.commit, first):
            yield Problem(place.model.file, place.key, *refused)
    total = sum(fault.size or 0 for need in wanted.values() for fault in need.missing)
    names = ", ".join(sorted({need.place.repository.identity.repository for need in wanted.values()}))
    if wanted and (problem := no_room(total, names, next(iter(wanted.values())).place)):
        yield problem


def remote_code_problems(record: ModelRecord) -> list[Problem]:
    """The problem of a model that can only be loaded by the code beside its weights, but may not run it."""
    settings, source = record.settings, record.source
    if not isinstance(settings, TransformersConfig) or settings.trust_remote_code:
        return []
    config = _config(source) if isinstance(source, Folder | HubRepository) else {}
    code = config.get("auto_map")
    if not isinstance(code, dict) or not {"AutoConfig", "AutoModelForCausalLM"} & code.keys():
        return []
    if _is_known(str(config.get("model_type"))):  # transformers then uses its own code
        return []
    what = f"{settings.path} is loaded by its own code ({', '.join(map(str, code.values()))}: config.json, auto_map)"
    fix = "read that code; if you trust it, set trust_remote_code: true (it runs with your permissions)"
    return [Problem(record.file, "trust_remote_code", what, fix)]


def _config(source: Folder | HubRepository) -> dict[str, Any]:
    """A model's config.json, downloaded if it is not here."""
    if isinstance(source, Folder):
        return read_object(Path(source.path) / CONFIG)
    identity = source.identity
    path = snapshot("model", identity.repository, identity.commit) / CONFIG
    if not path.is_file() and not is_offline():
        from huggingface_hub import hf_hub_download

        with suppress(Exception):  # other checks report the reason
            path = Path(hf_hub_download(identity.repository, CONFIG, revision=identity.commit))
    return read_object(path)


def _is_known(model_type: str) -> bool:
    """Whether transformers has code for a type of model."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # takes seconds, so only when needed

    return model_type in CONFIG_MAPPING_NAMES
