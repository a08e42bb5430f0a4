"""Digests of this library's source: what its parts make is made anew when they change."""

import ast
import functools
from collections.abc import Iterable
from pathlib import Path

from shardmark import layout
from shardmark.files import canonical_json, digest, file_sha256, read_sealed, sealed, sha256, write_whole

SOURCES = {".py", ".j2", ".css", ".js"}
LIBRARY = Path(__file__).resolve().parent.parent


@functools.cache
def source_digest(*parts: str) -> str:
    """The digest of the source of parts of this library, packages or files, as it is, comments and all."""
    return digest({str(path.relative_to(LIBRARY)): file_sha256(path) for path in _files(parts)})


def code_digest(results: Path, *parts: str) -> str:
    """The digest of what parts of this library do: of their Python without comments, docstrings and layout.

    To find it out takes a moment, so it is remembered in the results folder for the files as they are.
    """
    memo, key = layout.CODE.file(results), source_digest(*parts)
    known = read_sealed(memo)
    if key not in known:
        known = {key: digest({str(path.relative_to(LIBRARY)): _meaning(path) for path in _files(parts)})}
        write_whole(memo, canonical_json(sealed(known)))
    return str(known[key])


def _files(parts: Iterable[str]) -> list[Path]:
    found = [path for part in parts for path in (LIBRARY / part, *(LIBRARY / part).rglob("*"))]
    return sorted(path for path in found if path.suffix in SOURCES)


def _meaning(path: Path) -> str:
    return sha256(without_comments(path.read_text())) if path.suffix == ".py" else file_sha256(path)


def without_comments(source: str) -> str:
    """Python without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            kept = [one for one in node.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
            node.body = kept or [ast.Pass()]
    return ast.unparse(tree)
