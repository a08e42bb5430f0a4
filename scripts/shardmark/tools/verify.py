"""Hash a results folder, and what it was made from, anew: what is no longer what was written?"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from shardmark import layout
from shardmark.errors import Problem, UserError
from shardmark.files import read_object
from shardmark.lock.lock import LOCK, Lock
from shardmark.records.base import find_sealed
from shardmark.records.model import Folder, GgufFile, ModelRecord, Source
from shardmark.store.tasks import read_header
from shardmark.tools import checks
from shardmark.tools.checks import Check, Damage
from shardmark.tools.planned import refusals


def checks_for(results: Path, root: Path) -> list[Check]:
    """Everything that can be checked: a results folder, and the files that it and the lock below `root` tell of."""
    found = [
        Check(path, getattr(checks, kind.check)) for kind in layout.KINDS if kind.check for path in kind.found(results)
    ]
    sources = _sources(results, root)
    return found + [Check(path, checks.source(hashes)) for path, hashes in sorted(sources.items()) if path.is_file()]


def verify(found: list[Check], root: Path, step: Callable[[int], object] = lambda size: None) -> Iterator[Damage]:
    """What is damaged, one by one; `step` hears of the bytes that were checked."""
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
    """The files that models and data were read from, each with the hashes it has been known by.

    A file that was edited has another one in every later result, and only the newest can be right; but which that is,
    nobody knows: a file may have been put back. What none of them fits has changed since.
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


def _files_of(location: Source) -> Iterator[tuple[Path, str]]:
    """The files of a location in a model's record with their hashes; none of the Hub, whose cache checks its own."""
    if isinstance(location, Folder):
        yield from ((Path(location.path) / name, value) for name, value in location.identity.items())
    elif isinstance(location, GgufFile):
        yield Path(location.path), location.identity.gguf


def _locked(root: Path) -> Iterator[tuple[Path, str]]:
    """The files in the lock whose place it knows."""
    lock = read_object(root / LOCK)
    names = [kinds for section in ("models", "datasets") for kinds in lock.get(section, {}).values()]
    for kind, record in (item for kinds in names for item in kinds.items()):
        places = [record, *(record.get(part) or {} for part in ("tokenizer", "adapter", "few_shot"))]
        for place in places if kind != "data_root" else ():
            if "path" in place:
                path = Path(place["path"]).expanduser()
                yield from ((path / name, value) for name, value in place.get("files", {}).items())
                yield from [(path, place["sha256"])] if "sha256" in place else []


def delete_damaged(found: list[Damage], results: Path) -> list[Path]:
    """Remove the damaged files that a run makes anew, and name them. Raises UserError for what cannot be removed."""
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
