"""Where a data set's rows come from, and which they are, without reading them as rows."""

from pathlib import Path
from typing import Any

from shardmark.config import DatasetConfig, Named
from shardmark.plan.hashes import HashCache
from shardmark.plan.lock import Lock
from shardmark.tasks import rows_file


def dataset_origin(
    dataset: Named[DatasetConfig], data_root: str | None, lock: Lock, hashes: HashCache
) -> tuple[Path | None, dict[str, Any]]:
    """The file of a data set with its hash, or no file and what it is on the Hub. Raises UserError."""
    source = dataset.settings.source
    path = rows_file(source, data_root, dataset.file)
    if path:
        return path, {"file": str(path), "sha256": hashes.sha256(path)}
    commit = lock.commit("dataset", str(source.hub), source.revision, dataset.file)
    return None, {"hub": str(source.hub), "config": source.config, "split": source.split, "commit": commit}
