"""The lines of problems, looked up in the file when there is something to report."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import yaml

from shardmark.config.search_path import places_of
from shardmark.config.yaml_files import compose_yaml
from shardmark.errors import Problem, UserError


@contextmanager
def lines_named(root: Path) -> Iterator[None]:
    """A block whose UserError gets, for each key in a YAML file below `root`, its line and the file it comes from."""
    try:
        yield
    except UserError as error:
        raise UserError(placed(problem, root) for problem in error.problems) from error


def placed(problem: Problem, root: Path) -> Problem:
    """The problem with the line of its key, in the included file if that has it; unchanged if there is none."""
    found = _place(Path(problem.where), problem.key, root, set()) if problem.key else None
    return replace(problem, line=f"{found[0]}:{found[1]}") if found else problem


def _place(file: Path, key: str, root: Path, seen: set[Path]) -> tuple[Path, int] | None:
    """The file and line of a key, or of its innermost part that exists."""
    node = _node(root / file) if file.suffix in (".yaml", ".yml") and file not in seen else None
    if node is None:
        return None
    if (line := _line(node, key.split("."))) is not None:
        return file, line
    bases = _value(node, "include")
    names = bases.value if isinstance(bases, yaml.SequenceNode) else [bases] if bases else []
    for name in reversed(names):
        stem = str(name.value).rpartition("/")[2].removesuffix(".yaml")
        for target in places_of(file, root, stem):
            if found := _place(target, key, root, seen | {file}):
                return found
    return None


def _node(path: Path) -> yaml.Node | None:
    try:
        return _composed(path, path.stat().st_mtime_ns)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError):
        return None


@lru_cache(maxsize=16)
def _composed(path: Path, changed: int) -> yaml.Node | None:
    """The nodes of a file, kept because a file may have many problems."""
    return compose_yaml(path.read_text(encoding="utf-8"))


def _line(node: yaml.Node, keys: list[str]) -> int | None:
    """The line, from 1, of the last of the nested keys that exists; None if the first does not."""
    line = None
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode) and (found := [pair for pair in node.value if pair[0].value == key]):
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        else:
            break
    return line


def _value(node: yaml.Node, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)
