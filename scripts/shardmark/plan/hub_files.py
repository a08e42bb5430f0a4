"""Whether the files of a run's models in the Hub's cache are those that the lock lists for their commits."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from rich.filesize import decimal

from shardmark.errors import Problem
from shardmark.records.model import HubFile, HubRepository, ModelRecord
from shardmark.store.contents import SMALL, ContentHashes, Fault, faults
from shardmark.store.hub_cache import full_disk, named_by_content, snapshot

SHOWN = 5
"The most files that a message names."


class Place(NamedTuple):
    """A repository with files of a model."""

    model: ModelRecord
    key: str
    "The key of the model's file that names it."
    repository: HubRepository

    @property
    def name(self) -> str:
        """Its name on the Hub."""
        return self.repository.identity.repository

    @property
    def folder(self) -> Path:
        """The folder where its files are, or will be."""
        return snapshot("model", self.repository.identity.repository, self.repository.identity.commit)

    @property
    def files(self) -> dict[str, HubFile]:
        """Known facts about its files: from the lock, or else from their places in the cache."""
        return self.repository.files or named_by_content(self.folder)


def places(records: Iterable[ModelRecord]) -> Iterator[Place]:
    """Every repository on the Hub that models need."""
    for record in records:
        parts = (("path", record.source), ("tokenizer_path", record.tokenizer), ("adapter", record.adapter))
        for key, place in parts:
            if isinstance(place, HubRepository):
                yield Place(record, key, place)


def content_problems(records: Iterable[ModelRecord], results: Path, everything: bool) -> list[Problem]:
    """A problem for each file in the cache that differs from the lock; missing files are no problem but downloaded.

    Weights are read only with `everything`; otherwise staging reads them, and each node before it takes a GPU.
    """
    hashes: ContentHashes | None = None
    problems = []
    for place in places(records):
        if place.folder.is_dir():
            hashes = hashes or ContentHashes(results)
            found = faults(place.folder, place.files, hashes, float("inf") if everything else SMALL)
            problems += [wrong(fault, place) for fault in found if not fault.is_missing]
    if hashes:
        hashes.save()
    return problems


def unknown_contents(records: Iterable[ModelRecord]) -> list[Problem]:
    """A remark on each repository in the cache whose files can only be compared with the cache's own names for them."""
    what = "config/benchmark.lock does not list the files of {}: they are compared with {}"
    fix = "plan once where the Hub can be reached, with `frozen` off, to complete the lock"
    return [
        Problem(
            place.model.file,
            place.key,
            what.format(place.name, "their names in the cache only" if place.files else "nothing"),
            fix,
        )
        for place in places(records)
        if not place.repository.files and place.folder.is_dir()
    ]


def wrong(fault: Fault, place: Place, fix: str = "") -> Problem:
    """The problem of a file that is there but has the wrong contents."""
    name = fault.path.relative_to(place.folder)
    what = f"{name} of {place.repository.identity.repository} in the cache: {fault.what} ({fault.path})"
    return Problem(
        place.model.file, place.key, what, fix or f"remove {fault.path.resolve()} and run again to download it"
    )


def missing(place: Place) -> list[Fault]:
    """The files that are known to be needed but are not in the cache."""
    return [fault for fault in faults(place.folder, place.files, None) if fault.is_missing]


def no_room(needed: int, names: str, place: Place) -> Problem | None:
    """The problem if `needed` bytes of some repositories do not fit on the disk of the Hub's cache, else None."""
    full = full_disk(needed, names)
    return Problem(place.model.file, place.key, *full) if full else None


def told(missing: list[Fault]) -> str:
    """Some files by name and size, and the number of others."""
    names = [f"{fault.path.name}{f' ({decimal(fault.size)})' if fault.size else ''}" for fault in missing[:SHOWN]]
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return f"{', '.join(names)}{more} {'is' if len(missing) == 1 else 'are'}"
