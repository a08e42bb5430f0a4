"""Answers in a shared store to requests of a plan, written to where the plan looks for existing answers.

A shard whose requests an entry answers is written to its place. Entries with some of the requests, from other shards of
the same data set or its relatives, are written as the shards that they are: plan/reuse.py finds them among the others.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from shardmark import layout
from shardmark.config import RunConfig
from shardmark.errors import Problem
from shardmark.plan.outdated_answers import OutdatedAnswers
from shardmark.plan.reuse import Warn
from shardmark.records.model import ModelRecord
from shardmark.records.shared import EntryHeader, Taken, distinct
from shardmark.records.trailer import Made, Trailer, reused
from shardmark.store.predictions import write_predictions
from shardmark.store.requests import ids_in
from shardmark.store.shared import SharedStore, StoreError, several
from shardmark.store.shared_entries import (
    ID_DIGITS,
    Entry,
    EntryRefused,
    ids_of,
    read_entry,
    read_header,
    store_key,
)

NAMED = 5
"The most entries whose refusal is reported by name; the rest are counted."
REFUSED = "remove it from the store; its requests are inferred unless another entry has answers to them"
OLD = "its answers are from an earlier version, some of whose answers were wrong"


class Wanted(NamedTuple):
    """The missing answers of a data set."""

    dataset: str
    shards: dict[str, Path]
    "The missing shards by name, with their request files."
    level: set[str]
    "All shards of the division."
    known: Collection[str]
    "The ids of requests that have an answer in this results folder."
    relatives: Callable[[set[str]], set[str]]
    "Selects those of some data sets that ask about the same rows."


class SharedAnswers:
    """Answers in the store of a run; none if it cannot be used, which is passed to `warn`."""

    def __init__(self, run: RunConfig, warn: Warn) -> None:
        self._results, self._trust, self._warn = Path(run.results), run.store_trust, warn
        self._address, self._key = str(run.store), store_key()
        self._refused = 0
        self._broken = False
        self.strangers: set[str] = set()
        "Paths of entries that were left out because they are not the user's own."
        self.used: Counter[str] = Counter()
        "The number of answers written, by owner."
        self._listed = cache(lambda model: self._store.entries(model))

    @cached_property
    def _store(self) -> SharedStore:
        store = SharedStore(self._address)
        store.check()
        return store

    def _trusted(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries that may be used, the user's own first."""
        entries = sorted(entries, key=lambda entry: (not self._is_own(entry.key), entry))
        if self._trust == "all":
            return entries
        self.strangers |= {entry.path for entry in entries if not self._is_own(entry.key)}
        return [entry for entry in entries if self._is_own(entry.key)]

    def _is_own(self, key: str) -> bool:
        return self._key is not None and key == self._key.name

    def take(self, model: ModelRecord, wanted: Wanted) -> list[Path]:
        """Write the store's answers to missing shards of a model; returns the files that are none of these shards."""
        if self._broken:
            return []
        parts: list[Path] = []
        try:
            whole = self._take_whole(model, wanted)
            left = {key for name, path in wanted.shards.items() if name not in whole for key in ids_in(path)}
            for path in self._take_parts(model, wanted, left - {*wanted.known}):
                parts.append(path)  # one by one: what has been read stays, if the store then fails
        except StoreError as error:
            self._broken = True
            fix = f"{error.problems[0].fix}; this run does not use it any more"
            self._warn(Problem("store", self._address, error.problems[0].what, fix))
        return parts

    def _take_whole(self, model: ModelRecord, wanted: Wanted) -> set[str]:
        """Write entries that are missing shards; returns their names."""
        done: set[str] = set()
        found = self._trusted(entry for entry in self._listed(model.digest) if entry.shard in wanted.shards)
        first = {entry.shard: entry for entry in reversed(found)}
        others = [entry for entry in found if first[entry.shard] is not entry]
        for entries in (first.values(), others):
            asked = [entry for entry in entries if entry.shard not in done]
            done |= {entry.shard for entry in self._written(model, asked, wanted.dataset)}
        return done

    def _take_parts(self, model: ModelRecord, wanted: Wanted, left: set[str]) -> Iterator[Path]:
        """Write entries with some of the remaining requests; yields their files."""
        entries = self._listed(model.digest)
        kin = {wanted.dataset} | wanted.relatives({entry.dataset for entry in entries} - {wanted.dataset})
        near = self._trusted(entry for entry in entries if entry.dataset in kin and entry.shard not in wanted.level)
        digits = {key[:ID_DIGITS] for key in left}
        helpful = []
        for entry, head in several(self._store.head, near) if digits else ():
            try:
                answers = ids_of(read_header(head.result(), entry, self._key)) & digits
            except (EntryRefused, FileNotFoundError) as error:
                self._refuse(entry, error)
                continue
            if answers:
                helpful.append(entry)
                digits -= answers
        yield from (self._place(model, entry) for entry in self._written(model, helpful, left=left))

    def _place(self, model: ModelRecord, entry: Entry, dataset: str | None = None) -> Path:
        fields = {"model": model.full_name, "dataset": dataset or entry.dataset, "shard": entry.shard}
        return layout.PREDICTIONS.file(self._results, **fields)

    def _written(
        self, model: ModelRecord, entries: Iterable[Entry], dataset: str | None = None, left: set[str] | None = None
    ) -> Iterator[Entry]:
        """The complete and trusted entries, each written as a prediction file (of `dataset`, if given).

        `left` are the ids that are wanted from them; None for all.
        """
        outdated = OutdatedAnswers(model, self._results)
        for entry, content in several(self._store.content, entries):
            try:
                header, predictions, trailer = read_entry(content.result(), entry, self._key)
                self._check_trust(trailer)
            except (EntryRefused, FileNotFoundError) as error:
                self._refuse(entry, error)
                continue
            path = self._place(model, entry, dataset)
            if path.exists():
                continue
            write_predictions(path, predictions.values(), _made(self._address, header, trailer), trailer.answers)
            if outdated.spoils(path):
                path.unlink()
                self._refuse(entry, EntryRefused(OLD))
                continue
            self.used[header.by] += len(predictions if left is None else predictions.keys() & left)
            yield entry

    def _check_trust(self, trailer: Trailer) -> None:
        """Raise EntryRefused if the owner has answers from others, unless all are trusted."""
        strangers = [taken.by for taken in trailer.taken if not self._is_own(taken.key)]
        if strangers and self._trust == "own":
            raise EntryRefused(f"it has answers from {strangers[0]}, but store_trust is own")

    def _refuse(self, entry: Entry, why: Exception) -> None:
        """Warn of an entry that is not taken. Raises StoreError if it is gone because the whole store is."""
        if isinstance(why, FileNotFoundError):
            self._store.check()
        self._refused += 1
        if self._refused <= NAMED:
            self._warn(Problem("store", f"{self._address}/{entry.path}", f"refused: {why}", REFUSED))

    def notes(self) -> list[str]:
        """The lines about the store in the summary of a plan."""
        found = []
        if self.used:
            whose = ", ".join(f"{count:,} by {name}" for name, count in sorted(self.used.items()))
            found.append(f"store {self._address}: {sum(self.used.values()):,} answers reused ({whose})")
        if self.strangers:
            what = f"{len(self.strangers):,} entries by others left out"
            found.append(f"store {self._address}: {what} (store_trust: all would use them)")
        if self._refused > NAMED:
            found.append(f"store {self._address}: {self._refused:,} entries refused; the first {NAMED} are named")
        return found


def _made(address: str, header: EntryHeader, trailer: Trailer) -> Made:
    """The provenance of predictions taken from a store."""
    owner = Taken(
        by=header.by,
        key=header.key,
        store=address,
        shardmark=header.shardmark,
        packages=trailer.packages,
        hardware=trailer.hardware,
        gpus=sorted({*(trailer.gpu_names or [])}),
    )
    return reused(trailer, trailer.count, distinct([owner, *trailer.taken]))
