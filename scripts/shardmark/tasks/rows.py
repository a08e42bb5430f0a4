"""Where a data set's rows come from: a JSON-lines file, or the Hub."""

import json
import os
import re
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from shardmark.config.dataset import Source
from shardmark.errors import Problem, UserError
from shardmark.files import digest, jsonl, read_jsonl, write_whole

Row = dict[str, Any]

ROWS_FORMAT = 1
"Raised whenever rows of the Hub would be read differently than before; those kept in the cache then count no more."

MAX_DEPTH = 100
"The deepest nesting of lists and mappings in a row: what reads and writes rows follows each of them."

CONVERTED = "refs/convert/parquet"
"The branch in which the Hub itself converts data sets; there, a configuration is only a folder."

HINTS = [
    ("Unknown split", "source.split", "name one of its splits"),
    ("BuilderConfig|Config name is missing|no configuration", "source.config", "name one of its configurations"),
    ("scripts are no longer supported", "source.revision", f"try {CONVERTED}, the Hub's own conversion"),
    ("gated", "source.hub", "accept its terms on its page, then set HF_TOKEN or run `hf auth login`"),
]
"What `datasets` says if a key is wrong, the key, and the fix."


def rows_file(source: Source, data_root: str | None, where: str, key: str = "source") -> Path | None:
    """The JSON-lines file of a source, or None if its rows come from the Hub. Raises UserError about a setting."""
    if source.file:
        return _existing(Path(source.file).expanduser(), where, f"{key}.file")
    if not data_root:
        return None
    if not source.local:
        fix = f"add {key}.local: PATH, the file's place in the data_root folder"
        raise UserError(Problem(where, f"{key}.local", "data_root is set, but the data set names no file in it", fix))
    return _existing(Path(data_root).expanduser() / source.local, where, f"{key}.local")


def _existing(path: Path, where: str, key: str) -> Path:
    if not path.is_file():
        raise UserError(Problem(where, key, f"no file {path}", "correct the path, or data_root"))
    return path


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSON-lines file, one by one. Raises UserError at its end, with the lines of what is broken."""
    count, problems = 0, []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = parse_row(line)
            except (ValueError, RecursionError) as error:
                what = f"not valid JSON: {error}" if isinstance(error, ValueError) else "nested too deeply to be read"
                problems.append(Problem(f"{path}:{number}", "", what, "fix this line"))
                continue
            if not isinstance(row, dict):
                problems.append(Problem(f"{path}:{number}", "", "not a JSON object", "write {column: value, ...}"))
            elif not problems:  # after a broken line, only the other broken ones matter
                count += 1
                yield row
    if not count and not problems:
        problems.append(Problem(str(path), "", "the file has no rows", "put one JSON object on each line"))
    if problems:
        raise UserError(problems[:10])


def parse_row(line: bytes) -> Any:
    """The value of a line. Raises ValueError if it is no JSON or has a key twice, RecursionError for deep nesting."""
    value = json.loads(line, object_pairs_hook=_unique)
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise RecursionError
    return value


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return row


def _depth(value: object) -> int:
    """How many lists and mappings are in each other."""
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return depth


MEDIA = {"Image", "Audio", "Video", "Pdf", "Nifti", "Mesh", "BioStructure"}
"What `datasets` calls the columns whose values are objects in memory."


def hub_rows(source: Source, commit: str, where: str) -> Iterable[Row]:
    """The rows of a data set on the Hub at a commit, through `datasets`. Raises UserError.

    They are kept in the Hub's cache, because that of `datasets` cannot be asked for a commit.
    """
    from huggingface_hub.constants import HF_HOME

    asked = [str(source.hub), source.config, source.split, source.revision == CONVERTED, commit, ROWS_FORMAT]
    kept = Path(HF_HOME) / "shardmark" / "rows" / f"{digest(asked)}.jsonl"
    if kept.is_file():
        return read_jsonl(kept)
    try:
        rows = _fetch(source, commit)
    except Exception as error:  # network, disk, broken files, other formats: `datasets` raises what is below it
        raise UserError(_unreadable(source, where, error)) from error
    with suppress(OSError):  # a cache that cannot be written only costs time
        write_whole(kept, jsonl(rows))
    return rows


def _fetch(source: Source, commit: str) -> list[Row]:
    from datasets import load_dataset_builder  # 1 s: only where the Hub is really read

    config, folder = source.config, None
    if source.revision == CONVERTED:
        config, folder = None, _converted_folder(source, commit)
    builder = load_dataset_builder(str(source.hub), config, data_dir=folder, revision=commit)
    if builder.hash != commit:
        raise FileNotFoundError(f"commit {commit} cannot be had, and the cache only has {builder.hash}")
    builder.download_and_prepare()
    return plain_rows(builder.as_dataset(split=source.split))


def plain_rows(split: Any) -> list[Row]:
    """The rows of a `datasets.Dataset` as JSON: dates, bytes and decimals become text; images, sounds, films and PDFs,
    which a prompt cannot hold, are left out. Raises TypeError for other objects."""
    media = [name for name, feature in split.features.items() if type(feature).__name__ in MEDIA]
    return [json.loads(json.dumps(row, default=_text_of)) for row in split.remove_columns(media)]


def _text_of(value: object) -> str:
    if isinstance(value, date | time | timedelta | Decimal | bytes):
        return str(value)
    raise TypeError(f"a column holds objects of type {type(value).__name__}, which are no text, number or list")


def _converted_folder(source: Source, commit: str) -> str:
    """The folder of a configuration in a branch of the Hub's conversions. All of them would be read as one."""
    from huggingface_hub import HfApi, RepoFolder

    tree = HfApi().list_repo_tree(str(source.hub), repo_type="dataset", revision=commit)
    folders = [entry.path for entry in tree if isinstance(entry, RepoFolder)]
    chosen = [folder for folder in folders if source.config in (None, folder)]
    if len(chosen) != 1:
        raise ValueError(f"there is no configuration {source.config!r}, only {', '.join(folders)}")
    return chosen[0]


def _unreadable(source: Source, where: str, error: Exception) -> Problem:
    """What went wrong while a data set was read, with the key to change."""
    if type(error).__name__ == "DatasetGenerationError" and isinstance(error.__cause__, Exception):
        error = error.__cause__  # it only says that there is one
    text = one_line(error)
    what = f"cannot read {source.hub}: {text}"
    for pattern, key, fix in HINTS:
        if re.search(pattern, text):
            return Problem(where, key, what, fix)
    offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("HF_DATASETS_OFFLINE")
    fix = "run once without HF_HUB_OFFLINE and HF_DATASETS_OFFLINE" if offline else "check the name and the network"
    return Problem(where, "source.hub", what, f"{fix}, or point data_root at a folder of JSON-lines files")


def one_line(error: Exception) -> str:
    """What an exception of another library says, in one line and without secrets."""
    return textwrap.shorten(unsigned(str(error)), 400, placeholder=" ...") or type(error).__name__


def unsigned(text: str) -> str:
    """A text without the queries of its addresses: whoever has one can download the file."""
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", text)
