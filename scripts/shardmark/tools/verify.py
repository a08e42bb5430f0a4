"""Hash a results folder and its inputs again, to find everything that has changed since it was written."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from shardmark import layout
from shardmark.config.dataset import Source
from shardmark.config.search_path import config_files
from shardmark.errors import Problem, UserError
from shardmark.files import read_object
from shardmark.installation import INSTALLATION
from shardmark.lock.lock import LOCK, Lock
from shardmark.records.base import Unreadable, convert, find_sealed
from shardmark.records.model import Folder, GgufFile, HubFile, HubRepository, ModelRecord
from shardmark.records.model import Source as ModelSource
from shardmark.store.hub_cache import named_by_content, snapshot
from shardmark.store.tasks import read_header
from shardmark.tasks.rows import CONVERTED, kept_rows
from shardmark.tools import checks
from shardmark.tools.checks import Check, Damage
from shardmark.tools.planned import refusals


def checks_for(results: Path, root: Path) -> list[Check]:
    """Everything that can be checked: a results folder, and the files that it and the lock below `root` refer to."""
    found = [
        Check(path, getattr(checks, kind.check)) for kind in layout.KINDS if kind.check for path in kind.found(results)
    ]
    sources = _sources(results, root)
    found += _of_the_hub(results, root)
    return found + [Check(path, checks.source(hashes)) for path, hashes in sorted(sources.items()) if path.is_file()]


def verify(found: list[Check], root: Path, step: Callable[[int], object] = lambda size: None) -> Iterator[Damage]:
    """The damages, one by one; `step` gets the number of bytes checked."""
    try:
        Lock(root / LOCK)
    except UserError as error:
        yield from (Damage(problem) for problem in error.problems)
    for check in found:
        try:
            size = check.path.stat().st_size
            yield from check.find(check.path)
            step(size)
        except FileNotFoundError:
            continue  # removed meanwhile
        except (OSError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
            what = f"it cannot be read: {getattr(error, 'strerror', None) or f'{type(error).__name__}: {error}'}"
            yield Damage(Problem(str(check.path), "", what, "fix its permissions or the disk, or delete it"))


def _sources(results: Path, root: Path) -> dict[Path, set[str]]:
    """The files that models and data were read from, each with all hashes that are known for it.

    An edited file has another hash in every later result, and only one of them can be right; but nobody knows which: a
    file may have been restored. A file that matches none of them has changed since.
    """
    found: dict[Path, set[str]] = defaultdict(set)
    for record in (find_sealed(path, ModelRecord) for path in layout.MODELS.found(results)):
        for location in record.locations if record else ():
            for path, value in _files_of(location):
                found[path].add(value)
    for header in map(read_header, layout.TASKS.found(results)):
        for name, value in header.dataset.origin.read_from.items() if header else ():
            found[Path(name)].add(value)
    for path, value in _locked(root):
        found[path].add(value)
    return found


def _of_the_hub(results: Path, root: Path) -> list[Check]:
    """The files in the Hub's caches of the models and data sets that the lock and the results refer to."""
    checks_of: dict[Path, Check] = {}
    models: dict[Path, dict[str, HubFile]] = {}
    for record in (find_sealed(path, ModelRecord) for path in layout.MODELS.found(results)):
        for place in record.locations if record else ():
            if isinstance(place, HubRepository):
                folder = snapshot("model", place.identity.repository, place.identity.commit)
                models[folder] = models.get(folder, named_by_content(folder)) | (place.files or {})
    for kind, repository, commit, known in _known(root):
        if kind == "model":
            folder = snapshot("model", repository, commit)
            models[folder] = models.get(folder, {}) | _hub_files(known)
            continue
        for part, rows in known.items():
            config, _, split = part.rpartition(":")
            for revision in (None, CONVERTED):
                path = kept_rows(Source(hub=repository, config=config or None, split=split, revision=revision), commit)
                checks_of[path] = Check(path, checks.rows_of_the_hub(str(rows.get("sha256"))))
    for folder, files in models.items():
        for name, file in files.items():
            checks_of[folder / name] = Check(folder / name, checks.of_the_hub(folder, name, file))
    return [check for path, check in sorted(checks_of.items()) if path.is_file()]


def _known(root: Path) -> list[tuple[str, str, str, dict[str, Any]]]:
    with suppress(UserError):  # `verify` reports a damaged lock
        return list(Lock(root / LOCK).all_contents())
    return []


def _hub_files(known: object) -> dict[str, HubFile]:
    with suppress(Unreadable):
        return convert(known, dict[str, HubFile])
    return {}


def _files_of(location: ModelSource) -> Iterator[tuple[Path, str]]:
    """The files of a location in a model's record, with their hashes; none of the Hub's."""
    if isinstance(location, Folder):
        yield from ((Path(location.path) / name, value) for name, value in location.identity.items())
    elif isinstance(location, GgufFile):
        yield Path(location.path), location.identity.gguf


def _locked(root: Path) -> Iterator[tuple[Path, str]]:
    """The files in the lock whose path it has."""
    lock = read_object(root / LOCK)
    sections = {section: config_files(section, root, []).own for section in ("models", "datasets")}
    names = [
        (Path() if name in own else Path(INSTALLATION), kinds)
        for section, own in sections.items()
        for name, kinds in lock.get(section, {}).items()
    ]
    for first, kind, record in ((first, *item) for first, kinds in names for item in kinds.items()):
        places = [record, *(record.get(part) or {} for part in ("tokenizer", "adapter", "few_shot"))]
        for place in places if kind != "data_root" else ():
            if "path" in place and "parts" not in place:  # for several files, results have the hashes
                path = Path(place["path"]).expanduser()
                path = next((folder / path for folder in (first, Path()) if (folder / path).exists()), path)
                yield from ((path / name, value) for name, value in place.get("files", {}).items())
                yield from [(path, place["sha256"])] if "sha256" in place else []


def delete_damaged(found: list[Damage], results: Path) -> list[Path]:
    """Remove the damaged files that a run makes again, and return them. Raises UserError if one cannot be removed."""
    files = sorted({path for damage in found for path in damage.derived if path.is_relative_to(results)})
    removed = []
    for path in files:
        with refusals(str(path), "a damaged file cannot be removed"):
            if path.exists():
                path.unlink()
                removed.append(path)
    for folder in sorted({path.parent for path in removed if "weights" in path.parts}, reverse=True):
        with refusals(str(folder), "a damaged folder cannot be removed"):
            if not any(folder.iterdir()):
                folder.rmdir()
    return removed
