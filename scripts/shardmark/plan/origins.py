"""The places of a data set's rows, and their identity, without reading them as rows."""

from collections.abc import Iterable
from pathlib import Path

from shardmark.config import DatasetConfig, Named
from shardmark.config.dataset import Source
from shardmark.files import sha256
from shardmark.lock.lock import Lock
from shardmark.records.origin import FileOrigin, HubOrigin, RowsOrigin
from shardmark.store.hashes import HashCache
from shardmark.tasks import FileRows, Row, hub_rows, rows_files
from shardmark.tasks.rows import RowsPin, check_kept, part_name


def dataset_origin(
    dataset: Named[DatasetConfig], data_root: str | None, lock: Lock, hashes: HashCache
) -> tuple[list[Path], RowsOrigin]:
    """The files of a data set with their hashes, or no files and its place on the Hub. Raises UserError."""
    return source_origin(dataset.settings.source, dataset.file, data_root, lock, hashes)


def source_origin(
    source: Source, where: str, data_root: str | None, lock: Lock, hashes: HashCache, key: str = "source"
) -> tuple[list[Path], RowsOrigin]:
    """The same for a source that the setting `key` of the file `where` describes. Raises UserError."""
    paths = rows_files(source, data_root, where, key)
    if paths:
        return paths, _file_origin(paths, source, hashes)
    commit = lock.commit("dataset", str(source.hub), source.revision, where)
    check_kept(source, commit, where, rows_pin(source, commit, lock), hashes.sha256)
    return [], HubOrigin(hub=str(source.hub), config=source.config, split=source.split, commit=commit)


def _file_origin(paths: list[Path], source: Source, hashes: HashCache) -> FileOrigin:
    if len(paths) == 1:
        return FileOrigin(file=str(paths[0]), sha256=hashes.sha256(paths[0]))
    files = {str(path): hashes.sha256(path) for path in paths}
    named = ", ".join(source.patterns or [str(source.local)])
    return FileOrigin(file=named, sha256=sha256([*files.values()]), files=files)


def examples_origin(
    dataset: Named[DatasetConfig], data_root: str | None, lock: Lock, hashes: HashCache
) -> tuple[list[Path], RowsOrigin] | None:
    """The same for the rows of few-shot examples; None if they have no source of their own."""
    source = dataset.settings.example_source()
    if source is None:
        return None
    return source_origin(source, dataset.file, data_root, lock, hashes, "few_shot.source")


def rows_pin(source: Source, commit: str, lock: Lock) -> RowsPin:
    """The lock's facts about rows of the Hub."""
    asked = str(source.hub), commit, part_name(source.config, source.split)
    return RowsPin(
        lock.rows_sha256(*asked),
        lambda sha256: lock.learn_rows(*asked, sha256=sha256),
        lock.rows_size(*asked),
        lambda files, size: lock.learn_rows(*asked, files=files, bytes=size),
    )


def origin_rows(source: Source, where: str, origin: RowsOrigin, lock: Lock) -> Iterable[Row]:
    """The rows of a source whose origin is known. Raises UserError."""
    if isinstance(origin, FileOrigin):
        return FileRows(map(Path, origin.files or [origin.file]), source)
    return hub_rows(source, origin.commit, where, rows_pin(source, origin.commit, lock))
