"""Sources of a data set's rows: files, or the Hub."""

import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from shardmark.config.dataset import Source
from shardmark.config.row_files import RowFiles
from shardmark.errors import Problem, UserError, collecting
from shardmark.files import digest, file_sha256, jsonl, read_jsonl, write_whole
from shardmark.printable import one_line
from shardmark.tasks.columnar_files import MEDIA, Row, plain_row
from shardmark.tasks.row_files import read_rows, refuse_without_effect
from shardmark.tasks.synthetic import synthetic_file

ROWS_FORMAT = 1
"Increased whenever rows of the Hub would be read differently than before; cached rows are then ignored."

CONVERTED = "refs/convert/parquet"
"The branch of the Hub's own conversions of data sets; there, a configuration is only a folder."

HINTS = [
    ("Unknown split", "source.split", "name one of its splits"),
    ("BuilderConfig|Config name is missing|no configuration", "source.config", "name one of its configurations"),
    ("scripts are no longer supported", "source.revision", f"try {CONVERTED}, the Hub's own conversion"),
    ("gated", "source.hub", "accept its terms on its page, then set HF_TOKEN or run `hf auth login`"),
]
"Error texts of `datasets` for a wrong key, with the key and the fix."


def rows_files(source: Source, data_root: str | None, where: str, key: str = "source") -> list[Path]:
    """The files of a source, in order; none if its rows come from the Hub. Raises UserError about a setting."""
    if source.synthetic:
        return [synthetic_file(source.synthetic)]
    if source.file:
        return _existing(source.patterns, Path(), where, f"{key}.file")
    if not data_root:
        return []
    if not source.local:
        fix = f"add {key}.local: PATH, the file's place in the data_root folder"
        raise UserError(Problem(where, f"{key}.local", "data_root is set, but the data set names no file in it", fix))
    return _existing([source.local], Path(os.path.expanduser(data_root)), where, f"{key}.local")


def _existing(patterns: list[str], root: Path, where: str, key: str) -> list[Path]:
    """The files for paths and globs; those of a glob are sorted by name."""
    found: list[Path] = []
    problems: list[Problem] = []
    for pattern in patterns:
        path = root / Path(os.path.expanduser(pattern))
        files = [path] if path.is_file() else []
        if not files and glob.has_magic(str(path)):
            files = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
        if not files:
            problems.append(_missing(pattern, path, where, key))
        problems += [
            Problem(where, key, f"{path} occurs twice", "name each file once") for path in files if path in found
        ]
        found += files
    if problems:
        raise UserError(problems)
    return found


def _missing(pattern: str, path: Path, where: str, key: str) -> Problem:
    if "://" in pattern:
        return Problem(where, key, f"{pattern} is an address, not a file", "download it first, or name source.hub")
    if path.is_dir():
        return Problem(where, key, f"{path} is a folder", f"name its files, as in {pattern.rstrip('/')}/*.jsonl")
    return Problem(where, key, f"no file {path}", f"correct the path{', or data_root' * key.endswith('local')}")


class FileRows:
    """The rows of some files, one file after another."""

    def __init__(self, paths: Iterable[Path], how: RowFiles | None = None) -> None:
        self.paths, self.how = list(paths), how or RowFiles()
        self._first: list[tuple[int, Path]] = []
        "The number of the first row of each file."

    def __iter__(self) -> Iterator[Row]:
        refuse_without_effect(self.paths, self.how)
        number, self._first = 0, []
        problems: list[Problem] = []
        for path in self.paths:
            self._first.append((number, path))
            with collecting(problems):
                for row in read_rows(path, self.how):
                    number += 1
                    yield row
        if problems:
            raise UserError(problems)

    def place(self, number: int) -> str:
        """The text to add to the number of a row: its file, if there are several."""
        if len(self.paths) < 2:
            return ""
        first, path = next(((first, path) for first, path in reversed(self._first) if first <= number))
        return f" (row {number - first} of {path})"


@dataclass
class RowsPin:
    """The SHA-256 of a commit's rows and the size of their files, with functions that record what becomes known."""

    sha256: str | None = None
    "None if it is not known yet."
    note: Callable[[str], None] = lambda sha256: None
    size: tuple[int, int] | None = None
    "The number and the bytes of the files that the Hub has for them; None if they are not known."
    note_size: Callable[[int, int], None] = lambda files, size: None

    def fits(self, sha256: str) -> bool:
        """Whether a hash is that of the known rows; if none are known yet, it becomes the known one."""
        if self.sha256 is None:
            self.note(sha256)
            self.sha256 = sha256
        return self.sha256 == sha256


def kept_rows(source: Source, commit: str) -> Path:
    """The file with rows of the Hub that have been read, beside the Hub's own cache, whose programs leave it alone.

    The cache of `datasets` cannot be looked up by commit.
    """
    from shardmark.store.hub_cache import hub_home  # only used for a path, which is no part of rendering

    asked = [str(source.hub), source.config, source.split, source.revision == CONVERTED, commit, ROWS_FORMAT]
    return hub_home() / "shardmark" / "rows" / f"{digest(asked)}.jsonl"


def part_name(config: str | None, split: str | None) -> str:
    """The lock's name for a part of a data set."""
    return f"{config}:{split}" if config else str(split)


def check_kept(source: Source, commit: str, where: str, pin: RowsPin, sha256: Callable[[Path], str]) -> None:
    """Raise UserError if the stored rows are not those of the commit; `sha256` hashes a file."""
    kept = kept_rows(source, commit)
    if kept.is_file() and not pin.fits(sha256(kept)):
        what = f"{kept} has other rows of {source.hub} than config/benchmark.lock has for its commit"
        raise UserError(Problem(where, "source.hub", what, f"remove {kept} and run again to read them again"))


def hub_rows(source: Source, commit: str, where: str, pin: RowsPin | None = None) -> Iterable[Row]:
    """The rows of a data set on the Hub at a commit, read with `datasets`. Raises UserError.

    They are stored in the Hub's cache, and must match the hash in the lock.
    """
    pin = pin or RowsPin()
    check_kept(source, commit, where, pin, file_sha256)
    kept = kept_rows(source, commit)
    if kept.is_file():
        return read_jsonl(kept)
    try:
        rows = _fetch(source, commit, where, pin)
    except UserError:
        raise
    except Exception as error:  # network, disk, broken files, other formats: `datasets` wraps the real error
        raise UserError(_unreadable(source, where, error, pin)) from error
    text = jsonl(rows)
    if not pin.fits(hashlib.sha256(text.encode()).hexdigest()):
        what = f"the rows of {source.hub}@{commit} are not those that config/benchmark.lock has for this commit"
        fix = (
            "clear the caches of the Hub and of datasets for it; or, if datasets now reads them differently, accept "
            "them"
        )
        fix += f": remove {part_name(source.config, source.split)!r} of the commit from `contents` in the lock"
        raise UserError(Problem(where, "source.hub", what, fix))
    with suppress(OSError):  # a cache that cannot be written only costs time
        write_whole(kept, text)
    return rows


def _fetch(source: Source, commit: str, where: str, pin: RowsPin) -> list[Row]:
    from datasets import load_dataset_builder  # takes 1 s, so only if the Hub is really read
    from httpx2 import HTTPError

    from shardmark.tasks.downloaded import downloaded

    config, folder = source.config, None
    try:
        if source.revision == CONVERTED:
            config, folder = None, _converted_folder(source, commit)
        builder = load_dataset_builder(str(source.hub), config, data_dir=folder, revision=commit)
        if builder.hash != commit:
            raise FileNotFoundError(f"commit {commit} is not available, and the cache has only {builder.hash}")
        if found := _files_size(builder.config.data_files or {}, source, commit):
            pin.note_size(*found)
            if not os.path.isdir(builder.cache_dir):
                _check_room(source, where, found[1])
    except (OSError, HTTPError):  # no network, or the commit is not in the cache of `datasets`
        here = downloaded(str(source.hub), commit, pin.sha256 is not None)
        if here is None:
            raise
        if source.revision == CONVERTED:
            folders = sorted(path.name for path in here.iterdir() if path.is_dir())
            config, folder = None, _chosen_folder(source, folders)
        builder = load_dataset_builder(str(here), config, data_dir=folder)
    builder.download_and_prepare()
    return plain_rows(builder.as_dataset(split=source.split))


def _files_size(data_files: dict[str, list[str]], source: Source, commit: str) -> tuple[int, int] | None:
    """The number and the bytes of the files that are to be read, all splits; None if the Hub does not tell."""
    from huggingface_hub import HfApi, RepoFile

    paths = {path.partition(f"@{commit}/")[2] for files in data_files.values() for path in files}
    with suppress(Exception):  # whatever keeps the Hub from answering is reported where the files are fetched
        told = HfApi().get_paths_info(str(source.hub), sorted(paths), repo_type="dataset", revision=commit)
        sizes = [file.size for file in told if isinstance(file, RepoFile)]
        return (len(sizes), sum(sizes)) if sizes and len(sizes) == len(paths) else None
    return None


def _check_room(source: Source, where: str, size: int) -> None:
    """Raise UserError if the files do not fit on the disk of the Hub's cache."""
    from shardmark.store.hub_cache import full_disk  # no part of rendering

    if full := full_disk(size, f"rows of {source.hub}"):
        raise UserError(Problem(where, "source.hub", *full))


def plain_rows(split: Any) -> list[Row]:
    """The rows of a `datasets.Dataset` as JSON: dates, bytes and decimals become text.

    Images, audio, videos and PDFs, which a prompt cannot hold, are left out. Raises TypeError for other objects.
    """
    media = [name for name, feature in split.features.items() if type(feature).__name__ in MEDIA]
    return [plain_row(row) for row in split.remove_columns(media)]


def _converted_folder(source: Source, commit: str) -> str:
    """The folder of a configuration in a branch of the Hub's conversions, all of which would be read as one."""
    from huggingface_hub import HfApi, RepoFolder

    tree = HfApi().list_repo_tree(str(source.hub), repo_type="dataset", revision=commit)
    return _chosen_folder(source, [entry.path for entry in tree if isinstance(entry, RepoFolder)])


def _chosen_folder(source: Source, folders: list[str]) -> str:
    chosen = [folder for folder in folders if source.config in (None, folder)]
    if len(chosen) != 1:
        raise ValueError(f"there is no configuration {source.config!r}, only {', '.join(folders)}")
    return chosen[0]


def _unreadable(source: Source, where: str, error: Exception, pin: RowsPin) -> Problem:
    """The problem with reading a data set, with the key to change."""
    if type(error).__name__ == "DatasetGenerationError" and isinstance(error.__cause__, Exception):
        error = error.__cause__  # it only wraps another error
    text = one_line(error)
    what = f"cannot read {source.hub}: {text}"
    for pattern, key, fix in HINTS:
        if re.search(pattern, text):
            return Problem(where, key, what, fix)
    offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("HF_DATASETS_OFFLINE")
    if pin.size and (offline or isinstance(error, OSError)):
        files, size = pin.size
        what += f"; to download: {files:,} file{'s' * (files > 1)}, {decimal(size)}"
    once = "run once without HF_HUB_OFFLINE and HF_DATASETS_OFFLINE (`snakemake stage` where there is a network)"
    fix = once if offline else "check the name and the network"
    return Problem(where, "source.hub", what, f"{fix}, or set data_root to a folder of files")
