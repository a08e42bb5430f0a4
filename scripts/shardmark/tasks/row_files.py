"""Read rows from files: JSON lines, JSON, CSV, TSV, Parquet and Arrow, also compressed.

They are not read with `datasets`, which guesses the types of a CSV file's columns: 007 would become 7, and NA nothing.
Here a cell is text unless `types` says otherwise, and a cell of the wrong type is an error that names file, row and
column.
"""

import csv
import io
import json
import lzma
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal

from shardmark.config.row_files import Format, RowFiles
from shardmark.errors import Problem, UserError, nearest
from shardmark.tasks.columnar_files import Row, arrow, columnar, parquet
from shardmark.tasks.compressed_files import MAGIC, OPENERS, opened, zstd_error

MAX_DEPTH = 100
"The deepest nesting of lists and mappings in a row: code that reads and writes rows recurses into them."
AS_UTF8 = "save the file as UTF-8"
MOST_PROBLEMS = 10
"The most broken rows of a file that are reported."
ENDINGS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
"Formats by the endings of file names; any other file is JSON lines."
TABLES = ("csv", "tsv")
OTHERS = ("\t", ";", "|", ",")
"Delimiters that a table may have instead of its format's own."


class _Broken(Exception):
    """A broken row; the message says what is wrong with it."""

    def __init__(self, what: str, fix: str = "fix this line") -> None:
        super().__init__(what)
        self.fix = fix


def read_rows(path: Path, how: RowFiles | None = None) -> Iterator[Row]:
    """The rows of a file, one by one. Raises UserError at its end, with the places of broken rows."""
    how = how or RowFiles()
    kind = format_of(path, how)
    count = 0
    problems: list[Problem] = []
    try:
        with closing(opened(path)) as file:
            for row in _READERS[kind](path, file, how, problems):
                if not problems:  # after a broken row, only other broken rows matter
                    count += 1
                    yield row
    except (EOFError, lzma.LZMAError, OSError, zlib.error, zstd_error()) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # an error of the disk or the network
        fix = "restore it, or correct its suffix"
        problems.append(Problem(str(path), "", f"cannot be decompressed: {error}", fix))
    if not count and not problems:
        fix = "put one JSON object on each line" if kind == "jsonl" else "add at least one row"
        problems.append(Problem(str(path), "", "the file has no rows", fix))
    if problems and kind == "jsonl" and not how.format and _ending(path) not in ENDINGS:
        fix = f"its ending means JSON lines; for others, set source.format: {', '.join(sorted({*ENDINGS.values()}))}"
        problems[0] = replace(problems[0], fix=f"{problems[0].fix}; {fix}")
    if problems and (foreign := _foreign(path, kind)):
        problems = [Problem(str(path), "", *foreign)]
    if problems:
        raise UserError(problems[:MOST_PROBLEMS])


def _foreign(path: Path, kind: Format) -> tuple[str, str] | None:
    """What a broken file is instead, and the fix, if its first bytes tell."""
    with open(path, "rb") as file:
        start = file.read(8)
    packed = path.suffix.lower() in OPENERS
    if start.startswith(b"PK\x03\x04"):
        return "it is a zip archive, as .xlsx and .ods files are", "unpack it, or export the sheet as CSV"
    if not packed and (suffix := next((suffix for suffix, magic in MAGIC.items() if start.startswith(magic)), None)):
        return f"it is compressed, as {suffix} files are", f"add {suffix} to its name"
    if not packed and kind != "parquet" and start.startswith(b"PAR1"):
        return "it is a Parquet file", "set source.format: parquet"
    return None


def format_of(path: Path, how: RowFiles) -> Format:
    """The format of a file, as given or by its name."""
    return how.format or ENDINGS.get(_ending(path), "jsonl")


def _ending(path: Path) -> str:
    """The ending of a file's name, without that of a compression."""
    return (path.with_suffix("") if path.suffix.lower() in OPENERS else path).suffix.lower()


def refuse_without_effect(paths: Sequence[Path], how: RowFiles) -> None:
    """Raise UserError for settings that affect none of these files."""
    kinds = {format_of(path, how) for path in paths}
    used = {"field": "json" in kinds, **dict.fromkeys(("types", "delimiter", "quotes"), not kinds.isdisjoint(TABLES))}
    wrong = [key for key in used if not used[key] and getattr(how, key) != RowFiles.model_fields[key].default]
    if wrong:
        what = f"source.{' and source.'.join(wrong)}: not used for a file that is read as {' and '.join(sorted(kinds))}"
        raise UserError(Problem(", ".join(map(str, paths)), "", what, "drop the key, or set source.format"))


def _json_lines(path: Path, file: IO[bytes], how: RowFiles, problems: list[Problem]) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = _json_value(line)
            if not isinstance(row, dict):
                raise _Broken("not a JSON object", "write {column: value, ...}")
        except _Broken as error:
            problems.append(Problem(f"{path}:{number}", "", str(error), error.fix))
        else:
            yield row


def _json_value(line: bytes) -> Any:
    """The value of a line. Raises _Broken."""
    try:
        return parse_row(line)
    except UnicodeDecodeError as error:
        raise _Broken(f"not UTF-8: {error.reason} at byte {error.start} of the line", AS_UTF8) from error
    except json.JSONDecodeError as error:  # its own text counts lines from this one
        raise _Broken(f"not valid JSON: {error.msg} at character {error.pos + 1} of the line") from error
    except ValueError as error:
        raise _Broken(f"not valid JSON: {error}") from error
    except RecursionError as error:
        raise _Broken("nested too deeply to be read") from error


def parse_row(line: bytes) -> Any:
    """The value of a line. Raises ValueError for invalid JSON or duplicate keys, RecursionError for deep nesting."""
    value = _DECODER.decode(line.decode("utf-8-sig", "surrogatepass"))
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise RecursionError
    return value


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
"Made once, and not for each line."


def _depth(value: object) -> int:
    """The depth of nested lists and mappings."""
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return depth


def _json(path: Path, file: IO[bytes], how: RowFiles, problems: list[Problem]) -> Iterator[Row]:
    """The rows of a list, or of the list under `field` in an object; or of JSON lines, as in many files named .json."""
    content = file.read()
    if not content.strip():
        return
    try:
        content.decode("utf-8-sig", "surrogatepass")
    except UnicodeDecodeError as error:
        problems.append(Problem(str(path), "", f"not UTF-8: {error.reason} at byte {error.start}", AS_UTF8))
        return
    if how.field is None and content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] != b"[":
        first, *others = [line for line in content.splitlines() if line.strip()]
        with suppress(ValueError, RecursionError):  # parsed below, where that is told
            found = json.loads(first if others else content)
            if others or not _holds_lists(found):
                yield from _json_lines(path, io.BytesIO(content), how, problems)
                return
    try:
        value = json.loads(content, object_pairs_hook=_unique)
        rows = _listed(value, how.field)
    except (_Broken, ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        what = "nested too deeply to be read" if isinstance(error, RecursionError) else str(error)
        known = isinstance(error, _Broken)
        fix = error.fix if isinstance(error, _Broken) else "fix it"
        problems.append(Problem(f"{path}{line}", "", what if known else f"not valid JSON: {what}", fix))
        return
    for number, row in enumerate(rows):
        what = "" if isinstance(row, dict) else "not a JSON object"
        if not what and _depth(row) > MAX_DEPTH:
            what = "nested too deeply to be read"
        if what:
            problems.append(Problem(str(path), "", f"row {number}: {what}", "write {column: value, ...}"))
        else:
            yield row


def _holds_lists(value: object) -> bool:
    """Whether an object seems to contain the rows of a file, rather than be a row itself."""
    return isinstance(value, dict) and any(
        isinstance(part, list) and part and isinstance(part[0], dict) for part in value.values()
    )


def _listed(value: object, field: str | None) -> list[Any]:
    """The rows that a JSON file holds. Raises _Broken."""
    if field is not None:
        if not isinstance(value, dict) or field not in value:
            known = nearest(field, value if isinstance(value, dict) else ())
            raise _Broken(f"there is no key {field!r}", f"correct source.field; {known}")
        value = value[field]
    if isinstance(value, list):
        return value
    keys = [key for key, part in value.items() if isinstance(part, list)] if isinstance(value, dict) else []
    if keys and field is None:
        raise _Broken("it holds an object, not a list of rows", f"set source.field: one of {', '.join(keys[:10])}")
    raise _Broken("it holds no list of rows", "write [{column: value, ...}, ...], or one object on each line")


def _table(path: Path, file: IO[bytes], how: RowFiles, problems: list[Problem]) -> Iterator[Row]:
    """The rows of a table of text, whose first line names the columns."""
    csv.field_size_limit(2**31 - 1)
    delimiter = how.delimiter or ("\t" if format_of(path, how) == "tsv" else ",")
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if how.quotes else csv.QUOTE_NONE
    lines = csv.reader(_decoded(file), delimiter=delimiter, quoting=quoting, strict=True)
    line, number = 1, -1
    try:
        names = _columns(next(filter(None, lines), []), delimiter, how)  # as below, empty lines are skipped
        line = lines.line_num + 1
        for cells in lines:
            if cells:  # empty lines are skipped
                number += 1
                row = _row(cells, names, how, problems, f"{path}:{line}", number)
                if row is not None:
                    yield row
            line = lines.line_num + 1
    except (csv.Error, UnicodeDecodeError, _Broken) as error:
        what, fix = str(error), "fix the line, or set source.quotes: false if quotes are part of the text"
        if what.startswith("new-line character"):
            what = "a carriage return (\\r) without a line feed"
            fix = "save the file with Unix line ends, or quote the cell"
        if isinstance(error, UnicodeDecodeError):
            what, fix = f"not UTF-8: {error.reason} at byte {error.start} of the line", AS_UTF8
        fix = error.fix if isinstance(error, _Broken) else fix
        problems.append(Problem(f"{path}:{max(line, lines.line_num)}", "", what, fix))


def _decoded(file: Iterable[bytes]) -> Iterator[str]:
    encoding = "utf-8-sig"
    for line in file:
        yield line.decode(encoding)
        encoding = "utf-8"


def _columns(header: list[str], delimiter: str, how: RowFiles) -> list[str]:
    """The names of the columns; a column without a name, as written by pandas, is named as pandas reads it."""
    names = [name or f"Unnamed: {number}" for number, name in enumerate(header)]
    if len(names) == 1 and how.delimiter is None and (other := next((c for c in OTHERS if c in names[0]), None)):
        raise _Broken(
            "the first line names one column only",
            f"set source.delimiter: {other!r}, or {delimiter!r} if there is only one",
        )
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise _Broken(f"two columns are called {doubled!r}", "rename one of them")
    if unknown := sorted(how.types.keys() - names):
        raise _Broken(f"there is no column {unknown[0]!r}", f"correct source.types; {nearest(unknown[0], names)}")
    return names


def _row(
    cells: list[str], names: list[str], how: RowFiles, problems: list[Problem], place: str, number: int
) -> Row | None:
    if len(cells) != len(names):
        what = f"row {number} has {len(cells)} cells, the first line names {len(names)} columns"
        fix = "fix this line: put cells with delimiters or line breaks in double quotes"
        problems.append(Problem(place, "", what, fix))
        return None
    row: Row = dict(zip(names, cells, strict=True))
    for column, kind in how.types.items():
        try:
            row[column] = _CASTS[kind](row[column])
        except _Broken as error:
            problems.append(Problem(place, "", f"row {number}, column {column!r}: {error}", error.fix))
            return None
    return row


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else f"{cell[:37]}...")


def _number(pattern: str, make: Callable[[str], Any], called: str) -> Callable[[str], Any]:
    def cast(cell: str) -> Any:
        text = cell.strip()
        value = make(text) if re.fullmatch(pattern, text) else None
        if text and (value is None or not math.isfinite(value)):
            raise _Broken(f"{_shown(cell)} is not a {called}", "correct the cell, or source.types")
        return value

    return cast


def _bool(cell: str) -> bool | None:
    text = cell.strip().lower()
    if text not in ("", "true", "false"):
        raise _Broken(f"{_shown(cell)} is neither true nor false", "correct the cell, or source.types")
    return text == "true" if text else None


def _json_cell(cell: str) -> Any:
    try:
        return parse_row(cell.encode("utf-8", "surrogatepass")) if cell.strip() else None
    except (ValueError, RecursionError) as error:
        what = f"{_shown(cell)} is not JSON ({error or 'nested too deeply'})"
        raise _Broken(what, 'write lists as ["a", "b"], or split the text in the template') from error


_CASTS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "int": _number(r"[+-]?[0-9]{1,300}", int, "whole number"),
    "float": _number(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", float, "number"),
    "bool": _bool,
    "json": _json_cell,
}


_READERS: dict[Format, Callable[[Path, IO[bytes], RowFiles, list[Problem]], Iterator[Row]]] = {
    "jsonl": _json_lines,
    "json": _json,
    "csv": _table,
    "tsv": _table,
    "parquet": columnar(parquet),
    "arrow": columnar(arrow),
}
