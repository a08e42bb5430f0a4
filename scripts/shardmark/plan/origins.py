"""Where a data set's rows come from, and which they are, without reading them as rows."""

from collections.abc import Iterable
from pathlib import Path

from shardmark.config import DatasetConfig, Named
from shardmark.config.dataset import Source
from shardmark.lock.lock import Lock
from shardmark.records.origin import FileOrigin, HubOrigin, RowsOrigin
from shardmark.store.hashes import HashCache
from shardmark.tasks import Row, hub_rows, read_rows, rows_file


def dataset_origin(
    dataset: Named[DatasetConfig], data_root: str | None, lock: Lock, hashes: HashCache
) -> tuple[Path | None, RowsOrigin]:
    """The file of a data set with its hash, or no file and what it is on the Hub. Raises UserError."""
    return source_origin(dataset.settings.source, dataset.file, data_root, lock, hashes)


def source_origin(
    source: Source, where: str, data_root: str | None, lock: Lock, hashes: HashCache, key: str = "source"
) -> tuple[Path | None, RowsOrigin]:
    """The same of a source that the setting `key` of the file `where` describes. Raises UserError."""
    path = rows_file(source, data_root, where, key)
    if path:
        return path, FileOrigin(file=str(path), sha256=hashes.sha256(path))
    commit = lock.commit("dataset", str(source.hub), source.revision, where)
    return None, HubOrigin(hub=str(source.hub), config=source.config, split=source.split, commit=commit)


def examples_origin(
    dataset: Named[DatasetConfig], data_root: str | None, lock: Lock, hashes: HashCache
) -> tuple[Path | None, RowsOrigin] | None:
    """The same of the rows that few-shot examples are taken from; None if they have no source of their own."""
    source = dataset.settings.example_source()
    if source is None:
        return None
    return source_origin(source, dataset.file, data_root, lock, hashes, "few_shot.source")


def origin_rows(source: Source, where: str, origin: RowsOrigin) -> Iterable[Row]:
    """The rows of a source whose origin is known. Raises UserError."""
    if isinstance(origin, FileOrigin):
        return read_rows(Path(origin.file))
    return hub_rows(source, origin.commit, where)
