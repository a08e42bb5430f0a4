"""Answers that a model has given before, taken over into shards that are still missing.

A shard gets a new name when a row is edited, or when the data set is divided anew; a model or a data set may have got
a new name itself, or a data set may be a part of another. What matters is that the same model (by digest) was asked the
same request (by id). A shard whose requests have all been answered is written here and needs no job; of the others,
what is there is put into a partial file, where the job finds it.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from shardmark import layout
from shardmark.errors import Problem, UserError
from shardmark.files import digest
from shardmark.records.model import ModelRecord
from shardmark.records.prediction import Prediction
from shardmark.records.trailer import Made, Trailer, Work
from shardmark.store.partials import PARTIAL, append_partial, partial_files, read_partial
from shardmark.store.predictions import read_predictions, write_predictions
from shardmark.store.requests import ids_in

Warn = Callable[[Problem], None]
WHOLE = ".jsonl"


class Answered:
    """The prediction files of one model, under whatever name it has had."""

    def __init__(self, results: Path, model: ModelRecord) -> None:
        self._results, self._model = results, model.full_name
        folders = layout.PREDICTIONS.folders(results, model=layout.full_name("*", model.digest))
        self._folders = {folder: set(os.listdir(folder)) for folder in folders}

    def folder(self, dataset: str) -> Path:
        """Where the answers to a data set are, under the name that the model has now."""
        return layout.PREDICTIONS.folder(self._results, model=self._model, dataset=dataset)

    def names(self, dataset: str) -> set[str]:
        """The files of a data set."""
        return self._folders.get(self.folder(dataset), set())

    def datasets(self) -> set[str]:
        """The names of the data sets that it has answers to."""
        return {folder.name for folder in self._folders}

    def sources(
        self, dataset: str, missing: set[str], level: set[str], relatives: Collection[str] = ()
    ) -> Iterator[Path]:
        """Files that may hold answers for the missing shards of a level, whole ones first.

        The other shards of the data set and of its relatives, which are other data sets with questions about the same
        rows, and shards of the same name of any data set.
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
    """Write what `sources` know of some shards into the folder `out`: how many answers each has now.

    `shards` are the missing ones by name, with their request files; `warn` hears of sources that are damaged.
    """
    sources = list(sources)
    known = {name: _in_partials(out / f"{name}{WHOLE}") for name in shards}
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
            append_partial(out / f"{name}{WHOLE}", predictions)
            known[name] |= {prediction.id for prediction in predictions}
            if trailer:
                left[name] -= {prediction.id for prediction in predictions}
                facts[name] = trailer
    for name in asked:
        if not left[name]:
            _finish(out / f"{name}{WHOLE}", facts[name])
    return {name: len(ids) for name, ids in known.items()}


def _in_partials(out: Path) -> set[str]:
    return {prediction.id for path in partial_files(out) for prediction in read_partial(path)}


def _found(source: Path, wanted: dict[str, str], warn: Warn) -> Iterator[tuple[str, list[Prediction], Trailer | None]]:
    """The predictions in a file that are wanted, by shard; they are wanted no more then."""
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
    """Make a whole file of a shard's partial ones; `trailer` is of a file that some of it is from."""
    predictions = {prediction.id: prediction for path in partial_files(out) for prediction in read_partial(path)}
    made = Made(
        inferred=0,
        reused=len(predictions),
        seconds=0.0,
        load_seconds=0.0,
        work=Work(read=0, written=0),
        gpus=trailer.gpus,
        gpu_names=trailer.gpu_names,
        started=trailer.started,
        finished=trailer.finished,
        batch_size=trailer.batch_size,
        hardware=trailer.hardware,
        packages=trailer.packages,
    )
    write_predictions(out, predictions.values(), made)
    for path in partial_files(out):
        path.unlink(missing_ok=True)
