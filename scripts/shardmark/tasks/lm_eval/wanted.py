"""Metrics and packages that a task's own Python needs when it is called, read from its source without importing it."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from shardmark.tasks.lm_eval.files import Function

PACKAGE = "evaluate"
MISSED = {"ImportError", "ModuleNotFoundError", "Exception"}
"Code that catches one of these can do without a package."


class Wanted(NamedTuple):
    """The needs of functions."""

    metrics: frozenset[str]
    "Names given to `evaluate.load`, when the module is imported or the function is called."
    packages: frozenset[str]
    "Packages that are imported only when the function is called."


def wanted(functions: Iterable[Function]) -> Wanted:
    """The needs of these functions, and of the functions and classes of their modules that they use."""
    found = [_wanted(function.file, function.name) for function in functions if function.file]
    return Wanted(*(frozenset[str]().union(*(each[n] for each in found)) for n in range(len(Wanted._fields))))


@lru_cache(maxsize=4096)
def draws_lots(file: Path) -> bool:
    """Whether a module may draw random numbers: whether it mentions them at all."""
    try:
        return re.search(r"random|shuffle|\brng\b", file.read_text("utf-8"), re.IGNORECASE) is not None
    except (OSError, ValueError):
        return False


@lru_cache(maxsize=256)
def _wanted(file: Path, name: str) -> Wanted:
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except (OSError, ValueError, SyntaxError):  # importing it will report the problem
        return Wanted(frozenset(), frozenset())
    defined = {part.name: part for part in tree.body if isinstance(part, ast.FunctionDef | ast.ClassDef)}
    used = _used(name.rpartition(".")[2], defined)
    loads = _names_of_load(tree)
    begun = [part for part in tree.body if part not in defined.values()]
    metrics = {metric for part in [*begun, *used] for metric in _loaded(part, loads)}
    packages = {package for part in used for package in _imported(part)}
    return Wanted(frozenset(metrics), frozenset(packages))


def _used(name: str, defined: dict[str, ast.FunctionDef | ast.ClassDef]) -> list[ast.AST]:
    """A function or class of a module, and those that it refers to, directly or indirectly."""
    waiting, found = [name], dict[str, ast.AST]()
    while waiting:
        part = defined.get(waiting.pop())
        if part is not None and part.name not in found:
            found[part.name] = part
            waiting += [node.id for node in ast.walk(part) if isinstance(node, ast.Name)]
    return list(found.values())


def _names_of_load(tree: ast.Module) -> set[str]:
    """The names of `evaluate.load` in a module."""
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


def _imported(part: ast.AST) -> Iterator[str]:
    """The packages that a function imports, unless it handles their absence."""
    if isinstance(part, ast.Try) and any(_catches(handler) for handler in part.handlers):
        return
    if isinstance(part, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in part.names)
    elif isinstance(part, ast.ImportFrom) and part.module and not part.level:
        yield part.module.partition(".")[0]
    for child in ast.iter_child_nodes(part):
        yield from _imported(child)


def _catches(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or any(isinstance(n, ast.Name) and n.id in MISSED for n in ast.walk(handler.type))
