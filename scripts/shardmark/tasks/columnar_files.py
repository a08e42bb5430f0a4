"""Read rows from Parquet and Arrow files, whose columns have types; and make any row one of JSON."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from shardmark.config.row_files import RowFiles
from shardmark.errors import Problem
from shardmark.tasks.compressed_files import OPENERS

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]
"A row of a data set, by column."

MEDIA = {"Image", "Audio", "Video", "Pdf", "Nifti", "Mesh", "BioStructure"}
"`datasets`' names of the column types whose values are objects in memory."


def columnar(
    batches: Callable[[Path, IO[bytes]], "Iterator[pyarrow.RecordBatch]"],
) -> Callable[[Path, IO[bytes], RowFiles, list[Problem]], Iterator[Row]]:
    """A reader of tables with typed columns: dates, bytes and decimals become text, as in rows of the Hub."""

    def rows(path: Path, file: IO[bytes], how: RowFiles, problems: list[Problem]) -> Iterator[Row]:
        import pyarrow

        number = 0
        try:
            for batch in batches(path, file):
                names = batch.schema.names
                if doubled := next((name for name in names if names.count(name) > 1), None):
                    problems.append(Problem(str(path), "", f"two columns are called {doubled!r}", "rename one of them"))
                    return
                for row in batch.drop_columns(_media(batch.schema)).to_pylist():
                    yield plain_row(row)
                    number += 1
        except TypeError as error:
            problems.append(Problem(str(path), "", f"row {number}, {error}", "leave the column out, or store text"))
        except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            what = f"cannot be read after row {number}: {error}" if number else f"cannot be read: {error}"
            problems.append(Problem(str(path), "", what, "write it again, or correct its suffix or source.format"))

    return rows


def _seekable(file: IO[bytes]) -> Any:
    import pyarrow

    return pyarrow.py_buffer(file.read())


def parquet(path: Path, file: IO[bytes]) -> "Iterator[pyarrow.RecordBatch]":
    """The rows of a Parquet file, a thousand at a time."""
    import pyarrow
    import pyarrow.parquet

    whole = path if path.suffix.lower() not in OPENERS else pyarrow.BufferReader(_seekable(file))
    with pyarrow.parquet.ParquetFile(whole) as table:
        yield from table.iter_batches(batch_size=1024)


def arrow(path: Path, file: IO[bytes]) -> "Iterator[pyarrow.RecordBatch]":
    """The rows of an IPC file or, as `datasets` writes them, of an IPC stream."""
    import pyarrow

    compressed = path.suffix.lower() in OPENERS
    source = pyarrow.BufferReader(_seekable(file)) if compressed else pyarrow.memory_map(str(path))
    with source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        if is_file:
            reader = pyarrow.ipc.open_file(source)
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            yield from pyarrow.ipc.open_stream(source)


def _media(schema: "pyarrow.Schema") -> list[str]:
    """The columns that `datasets` marks as images, audio and the like, which a prompt cannot hold."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return [name for name in schema.names if features[name].get("_type") in MEDIA]
    return []


def plain_row(row: Row) -> Row:
    """A row as JSON: dates, bytes and decimals become text. Raises TypeError for other objects."""
    try:
        return dict(json.loads(json.dumps(row, default=_text_of)))
    except TypeError:
        for column, value in row.items():
            try:
                json.dumps(value, default=_text_of)
            except TypeError as error:
                raise TypeError(f"column {column!r}: {error}") from error
        raise


def _text_of(value: object) -> str:
    if isinstance(value, date | time | timedelta | Decimal | bytes):
        return str(value)
    raise TypeError(f"a column holds objects of type {type(value).__name__}, which is not a text, number or list")
