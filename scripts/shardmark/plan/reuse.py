"""Existing answers of a model, taken over into shards that are still missing.

A shard gets a new name when a row is edited, or when the data set is divided again; a model or a data set may have been
renamed, or a data set may be a part of another. An answer is taken over if the same model (by digest) was asked the
same request (by id). A shard whose requests are all answered is written here and needs no job; for the others, existing
answers go into a partial file, where the job finds them.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from shardmark import layout
from shardmark.errors import Problem, UserError
from shardmark.files import digest
from shardmark.records.model import ModelRecord
from shardmark.records.prediction import Prediction
from shardmark.records.trailer import Trailer, reused
from shardmark.store.partials import PARTIAL, append_partial, partial_files, read_partial, taken_in
from shardmark.store.predictions import read_predictions, write_predictions
from shardmark.store.requests import ids_in

Warn = Callable[[Problem], None]
WHOLE = ".jsonl"


class Answered:
    """The prediction files of one model, under any name that it has had."""

    def __init__(self, results: Path, model: ModelRecord) -> None:
        self._results, self._model = results, model.full_name
        folders = layout.PREDICTIONS.folders(results, model=layout.full_name("*", model.digest))
        self._folders = {folder: set(os.listdir(folder)) for folder in folders}

    def folder(self, dataset: str) -> Path:
        """The folder of the answers to a data set, under the model's present name."""
        return layout.PREDICTIONS.folder(self._results, model=self._model, dataset=dataset)

    def names(self, dataset: str) -> set[str]:
        """The names of a data set's files."""
        return self._folders.get(self.folder(dataset), set())

    def datasets(self) -> set[str]:
        """The names of the data sets that have answers."""
        return {folder.name for folder in self._folders}

    def sources(
        self, dataset: str, missing: set[str], level: set[str], relatives: Collection[str] = ()
    ) -> Iterator[Path]:
        """Files that may hold answers for the missing shards of a level, complete ones first.

        These are the other shards of the data set and of its relatives (other data sets with questions about the same
        rows), and shards of the same name of any data set.
        """
        found = []
        for folder, files in self._folders.items():
            own = folder == self.folder(dataset)
            for name in files:
                stem = name.partition(".")[0]
                is_neighbour = (folder.name == dataset or folder.name in relatives) and not (own and stem in level)
                if (stem in missing and not (own and name.endswith(PARTIAL))) or is_neighbour:
                    found.append(folder / name)
        yield from sorted(path for path in found if path.suffix == WHOLE)
        yield from sorted(path for path in found if path.suffix == PARTIAL)


def take_over(out: Path, shards: dict[str, Path], sources: Iterable[Path], warn: Warn) -> dict[str, int]:
    """Write answers from `sources` to some shards into the folder `out`; returns how many answers each shard has now.

    `shards` are the missing ones by name, with their request files; `warn` is called for damaged sources.
    """
    sources = list(sources)
    known = {name: ids_in_partials(out / f"{name}{WHOLE}") for name in shards}
    if not sources:
        return {name: len(ids) for name, ids in known.items()}
    asked = {name: ids for name, path in shards.items() if digest(ids := ids_in(path)) == name}  # else it is damaged
    wanted = {key: name for name, ids in asked.items() for key in ids if key not in known[name]}
    left = {name: set(ids) for name, ids in asked.items()}
    facts: dict[str, Trailer] = {}
    for source in sources:
        if not wanted:
            break
        for name, predictions, trailer in _found(source, wanted, warn):
            given = {prediction.id for prediction in predictions}
            append_partial(out / f"{name}{WHOLE}", predictions, trailer.taken if trailer else taken_in([source], given))
            known[name] |= given
            if trailer:
                left[name] -= given
                facts[name] = trailer
    for name in asked:
        if not left[name]:
            _finish(out / f"{name}{WHOLE}", facts[name])
    return {name: len(ids) for name, ids in known.items()}


def ids_in_partials(out: Path) -> set[str]:
    """The ids of the requests that partial files of the prediction file `out` have answers to."""
    return {prediction.id for path in partial_files(out) for prediction in read_partial(path)}


def _found(source: Path, wanted: dict[str, str], warn: Warn) -> Iterator[tuple[str, list[Prediction], Trailer | None]]:
    """The wanted predictions in a file, by shard, which are then removed from `wanted`."""
    try:
        if not any(key in wanted for key in ids_in(source)):
            return
        if source.suffix == WHOLE:
            by_id, trailer = read_predictions(source)
            predictions: Iterable[Prediction] = by_id.values()
        else:
            predictions, trailer = read_partial(source), None
    except FileNotFoundError:
        return
    except UserError as error:
        warn(error.problems[0])
        return
    found: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        if name := wanted.pop(prediction.id, None):
            found.setdefault(name, []).append(prediction)
    for name, chosen in found.items():
        yield name, chosen, trailer


def _finish(out: Path, trailer: Trailer) -> None:
    """Make a complete file of a shard's partial ones; `trailer` belongs to a file that some answers come from."""
    partials = partial_files(out)
    predictions = {prediction.id: prediction for path in partials for prediction in read_partial(path)}
    made = reused(trailer, len(predictions), taken_in(partials, predictions))
    write_predictions(out, predictions.values(), made)
    for path in partials:
        path.unlink(missing_ok=True)
