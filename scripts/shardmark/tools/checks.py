"""Checks of single files: each reads one file, hashes all of it, and reports what is wrong with it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shardmark import layout
from shardmark.errors import Problem, UserError
from shardmark.files import digest, file_sha256, is_sealed, read_json
from shardmark.records.model import HubFile
from shardmark.store.contents import ContentHashes, faults
from shardmark.store.predictions import read_predictions
from shardmark.store.requests import read_requests
from shardmark.store.tasks import read_task

AGAIN = "delete it; the next run recreates it"


class Damage(NamedTuple):
    """A file that has changed since it was written."""

    problem: Problem
    derived: tuple[Path, ...] = ()
    "The files to delete so that a run makes them again; empty for files that Shardmark did not make."


class Check(NamedTuple):
    """A file and its check."""

    path: Path
    find: Callable[[Path], Iterator[Damage]]


def _damage(path: Path, what: str, *derived: Path) -> Damage:
    return Damage(Problem(str(path), "", what, AGAIN), derived or (path,))


def predictions(path: Path) -> Iterator[Damage]:
    """Check a prediction file: its trailer, and that its requests are those of the shard in its name."""
    try:
        found, _ = read_predictions(path)
    except UserError as error:
        yield Damage(error.problems[0], (path,))
        return
    if digest(list(found)) != path.stem:
        yield _damage(path, f"its {len(found)} requests do not match shard {path.stem}")


def requests(path: Path) -> Iterator[Damage]:
    """Check a request file: that each id matches its request, and the name matches the ids."""
    try:
        read_requests(path)
    except UserError as error:
        yield Damage(error.problems[0], (path,))


def task(path: Path) -> Iterator[Damage]:
    """Check a task file: the hash of its samples, and that its header describes the data set in its name."""
    try:
        header, _ = read_task(path)
    except UserError as error:
        yield Damage(error.problems[0], (path,))
        return
    if header.dataset.full_name != path.stem:
        yield _damage(path, f"it belongs to {header.dataset.full_name}")


def sealed_json(path: Path) -> Iterator[Damage]:
    """Check a JSON file with its own checksum."""
    if not _is_sealed(path):
        yield _damage(path, "its checksum is missing or does not match its contents")


def _is_sealed(path: Path) -> bool:
    try:
        return is_sealed(read_json(path))
    except ValueError:
        return False


def model_record(path: Path) -> Iterator[Damage]:
    """Check a model's record: its checksum, and that it describes the model in its name."""
    yield from sealed_json(path) if not _is_sealed(path) else _misnamed(path, read_json(path))


def _misnamed(path: Path, record: Any) -> Iterator[Damage]:
    named = layout.full_name(record.get("name"), record.get("digest"))
    if named != path.stem:
        yield _damage(path, f"it belongs to {named}")


def score(path: Path) -> Iterator[Damage]:
    """Check a score file with its samples and timings: one job makes all of them, and makes them again together."""
    model, name = path.parent.name, path.stem
    fields, results = layout.SCORES.fields(path), layout.SCORES.results(path)
    derived = tuple(kind.file(results, **fields) for kind in layout.SCORED)
    if not _is_sealed(path):
        yield _damage(path, "its checksum is missing or does not match its contents", *derived)
        return
    found = read_json(path)
    named = [layout.full_name(found[key]["name"], found[key]["digest"]) for key in ("model", "dataset")]
    if named != [model, name]:
        yield _damage(path, f"it belongs to {' on '.join(named)}", *derived)
    _, samples, timings = derived
    if not timings.is_file():
        return  # scoring makes it again, with the others
    if not _is_sealed(timings):
        yield _damage(timings, "its checksum is missing or does not match its contents", *derived)
    elif samples.is_file() and file_sha256(samples) != read_json(timings).get("samples_sha256"):
        yield _damage(samples, f"its hash differs from the one in {timings}", *derived)


def named_by_digest(path: Path) -> Iterator[Damage]:
    """Check a JSON file whose name is the digest of its content."""
    try:
        whole = digest(read_json(path)) == path.stem
    except ValueError:
        whole = False
    if not whole:
        yield _damage(path, "its contents do not match its name")


def converted_weights(path: Path) -> Iterator[Damage]:
    """Check the checksums of a folder of converted weights: every file in the folder."""
    folder = path.parent
    everything = tuple(sorted(file for file in folder.rglob("*") if file.is_file()))
    try:
        expected = dict(read_json(path))
    except (ValueError, TypeError):
        expected = {layout.CHECKSUMS.name(): ""}
    for name, value in expected.items():
        file = folder / name
        if not file.is_file() or file_sha256(file) != value:
            yield _damage(file, f"it is missing, or its hash differs from the one in {path}", *everything)


def of_the_hub(folder: Path, name: str, file: HubFile) -> Callable[[Path], Iterator[Damage]]:
    """A check of a file in the Hub's cache against the Hub's facts about it."""

    def check(path: Path) -> Iterator[Damage]:
        for fault in faults(folder, {name: file}, ContentHashes(None)):
            fix = f"remove {path.resolve()}; the next run downloads it again"
            yield Damage(Problem(str(path), "", fault.what, fix))

    return check


def rows_of_the_hub(expected: str) -> Callable[[Path], Iterator[Damage]]:
    """A check of the kept rows of a data set on the Hub."""

    def check(path: Path) -> Iterator[Damage]:
        if file_sha256(path) != expected:
            what = "its rows are not those that config/benchmark.lock has for their commit"
            yield Damage(Problem(str(path), "", what, "remove it; the next run reads the rows again"))

    return check


def source(expected: set[str]) -> Callable[[Path], Iterator[Damage]]:
    """A check of a file that models or data are read from, against all hashes that are known for it."""

    def check(path: Path) -> Iterator[Damage]:
        if file_sha256(path) not in expected:
            what = "its contents match neither config/benchmark.lock nor any result"
            fix = "restore it if you did not change it; else run again to evaluate what is there now"
            yield Damage(Problem(str(path), "", what, fix))

    return check
