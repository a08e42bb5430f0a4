"""Put a run's answers into its shared store, and report what is there."""

import getpass
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from shardmark import __version__, layout
from shardmark.config.merge import Merged
from shardmark.errors import Problem, UserError
from shardmark.files import digest
from shardmark.plan.plan import Plan
from shardmark.plan.shared_answers import REFUSED
from shardmark.records.model import ModelRecord
from shardmark.scoring.score import git_commit
from shardmark.store.predictions import parse_predictions
from shardmark.store.shared import SharedStore, StoreError, several
from shardmark.store.shared_entries import (
    Entry,
    EntryRefused,
    StoreKey,
    read_entry,
    read_header,
    store_key,
    write_entry,
)
from shardmark.tools.needs import needs_of
from shardmark.tools.planned import plan_run, without_store

Step = Callable[[str, int], None]


@dataclass
class Pushed:
    """The results of pushing a run's prediction files."""

    counts: Counter[str] = field(default_factory=Counter)
    """How many are `new` in the store, were `there` before, were `taken` from a store and so are not the user's own, or
    are `missing`, because their shard is not answered yet."""
    problems: list[Problem] = field(default_factory=list)
    "The files that are damaged."


def store_of(run: Merged) -> SharedStore:
    """The store that a run names. Raises UserError if it names none, or if the store cannot be used."""
    address = run.config.get("store")
    if not address:
        fix = "add store: /shared/folder or s3://bucket/prefix to the run's file, or set it with --config"
        raise UserError(Problem(run.where, "store", "this run names no store", fix))
    return SharedStore(str(address))


def push(run: Merged, root: Path, step: Step = lambda what, of: None) -> Pushed:
    """Put this run's needed answers into its store. Raises UserError for a store that cannot be written."""
    store = store_of(run)
    plan = plan_run(without_store(run), root, local=False, step=step)
    key = store_key(make=True)
    assert key is not None
    store.open_to_write()
    there = {entry.path for model in plan.models for entry in store.entries(model.digest)}

    def put(prediction: str) -> str:
        model, dataset, shard = prediction.split("/")
        path = layout.PREDICTIONS.file(plan.results, model=model, dataset=dataset, shard=shard)
        entry = Entry(layout.split_name(model)[1], dataset, shard, key.name, size=0)
        if entry.path in there:
            return "there"
        if not path.is_file():
            return "missing"
        content = _content(path, entry, key)
        if content is None:
            return "taken"
        return "new" if store.put(entry.path, content) else "there"  # another process was quicker

    pushed = Pushed()
    for _, done in several(put, sorted(needs_of([plan]).prediction)):
        try:
            pushed.counts[done.result()] += 1
        except StoreError as error:
            (problem,) = error.problems
            what = f"{problem.what}; {pushed.counts['new']:,} shards have been added completely"
            raise StoreError(replace(problem, what=what)) from error
        except UserError as error:
            pushed.problems += error.problems
    return pushed


def _content(path: Path, entry: Entry, key: StoreKey) -> bytes | None:
    """The entry for a prediction file; None if all of it came from a store. Raises UserError if it is damaged."""
    body = path.read_bytes()
    predictions, trailer = parse_predictions(body, path)
    ids = sorted(predictions)
    if not trailer.model or digest(ids) != path.stem:
        what = "not shared: its requests do not match its shard, or its trailer does not name its model"
        raise UserError(Problem(str(path), "", what, "snakemake verify --profile local"))
    if trailer.taken and not trailer.inferred:
        return None
    owner = {"by": _user(), "shardmark": version_here(), "name": path.parents[1].name.rpartition("@")[0]}
    return write_entry(entry, body, ids, owner, key)


def _user() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return f"somebody@{socket.gethostname()}"


def version_here() -> str:
    """The version of this Shardmark, with its commit."""
    commit = git_commit()
    return f"{__version__} ({commit})" if commit else __version__


@dataclass
class Status:
    """The store's contents for a model of a run."""

    model: ModelRecord
    entries: list[Entry]
    whose: Counter[str]
    "How many entries by the name of each owner."
    shards: int
    "How many shards the run has."
    answered: int
    "How many of these shards have an entry."
    refused: list[Problem]


def status(run: Merged, root: Path, verify: bool, step: Step = lambda what, of: None) -> Iterator[Status]:
    """The contents of a run's store for each of its models; `verify` reads everything. Raises UserError."""
    store, key = store_of(run), store_key()
    store.check()
    plan = plan_run(without_store(run), root, local=False, step=step)
    for model in plan.models:
        entries = store.entries(model.digest)
        whose: Counter[str] = Counter()
        refused = []
        for entry, content in several(store.content if verify else store.head, entries):
            try:
                found = content.result()
                header = read_entry(found, entry, key)[0] if verify else read_header(found, entry, key)
                whose[header.by + ", you" * (key is not None and header.key == key.name)] += 1
            except (EntryRefused, FileNotFoundError) as error:
                refused.append(Problem("store", f"{store.address}/{entry.path}", f"refused: {error}", REFUSED))
        shards = _shards(plan, model)
        yield Status(model, entries, whose, len(shards), len(shards & {entry.shard for entry in entries}), refused)


def _shards(plan: Plan, model: ModelRecord) -> set[str]:
    parts = (each.split("/") for each in needs_of([plan]).prediction)
    return {shard for name, _, shard in parts if name == model.full_name}


def status_table(found: list[Status]) -> Table:
    """A table with a line for each model."""
    columns = ("model", "digest", "entries", "size", "shards of this run", "made by")
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for each in found:
        size = decimal(sum(entry.size for entry in each.entries))
        whose = ", ".join(f"{name} ({count:,})" for name, count in sorted(each.whose.items()))
        shards = f"{each.answered:,} of {each.shards:,}"
        table.add_row(each.model.name, each.model.digest, f"{len(each.entries):,}", size, shards, escape(whose))
    return table
