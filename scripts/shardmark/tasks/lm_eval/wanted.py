"""Which metrics of `evaluate` a task's own Python wants, read from its source: nothing is imported for it."""

import ast
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from shardmark.tasks.lm_eval.files import Function

PACKAGE = "evaluate"


def wanted_metrics(functions: Iterable[Function]) -> set[str]:
    """The names that are given to `evaluate.load` when the modules are imported, or these functions are called."""
    return {name for function in functions if function.file for name in _wanted(function.file, function.name)}


@lru_cache(maxsize=256)
def _wanted(file: Path, name: str) -> frozenset[str]:
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except (OSError, ValueError, SyntaxError):  # importing it tells what is wrong
        return frozenset()
    defined = {part.name: part for part in tree.body if isinstance(part, ast.FunctionDef | ast.ClassDef)}
    loads = _names_of_load(tree)
    found = {metric for part in tree.body if part not in defined.values() for metric in _loaded(part, loads)}
    waiting, seen = [name.rpartition(".")[2]], set[str]()
    while waiting:
        part = defined.get(waiting.pop())
        if part is not None and part.name not in seen:
            seen.add(part.name)
            found.update(_loaded(part, loads))
            waiting += [node.id for node in ast.walk(part) if isinstance(node, ast.Name)]
    return frozenset(found)


def _names_of_load(tree: ast.Module) -> set[str]:
    """What `evaluate.load` is called in a module."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {f"{alias.asname or PACKAGE}.load" for alias in node.names if alias.name == PACKAGE}
        elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            names |= {alias.asname or alias.name for alias in node.names if alias.name == "load"}
    return names


def _loaded(part: ast.AST, loads: set[str]) -> Iterator[str]:
    for node in ast.walk(part):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in loads:
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield str(first.value)
