"""Digests of this library's source: files made by a part are made again when it changes."""

import functools
from pathlib import Path
from types import CodeType

from shardmark import layout
from shardmark.files import canonical_json, digest, file_sha256, read_sealed, sealed, write_whole

SOURCES = {".py", ".j2", ".css", ".js"}
LIBRARY = Path(__file__).resolve().parent.parent


@functools.cache
def source_digest(*parts: str) -> str:
    """The digest of the source of parts of this library (packages or files), including comments."""
    return digest({str(path.relative_to(LIBRARY)): file_sha256(path) for path in _files(parts)})


def code_digest(results: Path, *parts: str) -> str:
    """The digest of the behaviour of parts of this library: of their Python without comments, docstrings and layout.

    Computing it takes a moment, so it is remembered in the results folder for the files as they are.
    """
    memo, key = layout.CODE.file(results), source_digest(*parts)
    known = read_sealed(memo)
    if key not in known:
        known = {key: digest({str(path.relative_to(LIBRARY)): _meaning(path) for path in _files(parts)})}
        write_whole(memo, canonical_json(sealed(known)))
    return str(known[key])


@functools.cache
def _files(parts: tuple[str, ...]) -> list[Path]:
    found = [path for part in parts for path in (LIBRARY / part, *(LIBRARY / part).rglob("*"))]
    return sorted(path for path in found if path.suffix in SOURCES)


@functools.cache
def _meaning(path: Path) -> str:
    if path.suffix != ".py":
        return file_sha256(path)
    return digest(compiled(compile(path.read_bytes(), "", "exec", dont_inherit=True, optimize=2)))


def compiled(code: CodeType) -> list[object]:
    """The behaviour of compiled Python, as JSON: without comments, layout, and (`optimize=2`) docstrings.

    Another version of Python compiles to something else, and data sets are then rendered once more. Comparing syntax
    trees would avoid that, but take two to three times as long (0.7 s for the code that renders a data set).
    """
    counts = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
    names = [[*each] for each in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)]
    return [
        code.co_code.hex(),
        code.co_exceptiontable.hex(),
        counts,
        names,
        [_constant(each) for each in code.co_consts],
    ]


def _constant(value: object) -> object:
    if isinstance(value, CodeType):
        return compiled(value)
    if isinstance(value, tuple | frozenset):
        parts = [_constant(part) for part in value]
        return [type(value).__name__, sorted(parts, key=str) if isinstance(value, frozenset) else parts]
    return [type(value).__name__, repr(value)]
