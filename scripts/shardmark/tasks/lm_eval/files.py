"""lm-eval's YAML files with `include` and `!function`, read as by its own loader, but without importing anything."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from shardmark.config.yaml_files import FAST, Bounded, load_yaml, yaml_problem
from shardmark.errors import Problem, UserError

Config = dict[str, Any]
SKIPPED = {"__pycache__", ".ipynb_checkpoints"}


@dataclass(frozen=True)
class Function:
    """The reference `!function module.name`; nothing is imported to make it."""

    folder: Path
    "The folder of the file with the reference, where its module is looked for first."
    name: str
    "The module, with dots for folders, and the name in it."

    def __str__(self) -> str:
        return f"!function {self.name}"

    @property
    def file(self) -> Path | None:
        """The module's file beside the YAML file; None if the module must be imported by its name."""
        module = self.name.rpartition(".")[0]
        path = (self.folder / f"{module.replace('.', '/')}.py").resolve()
        return path if module and path.exists() else None


def read_config(path: Path) -> Config:
    """A file's keys with its includes, and Function for `!function`. Raises UserError.

    Includes are merged key by key, later ones over earlier ones, and the file's own keys over all. As in lm-eval, a
    file that is included twice, even by different routes, counts as a cycle.
    """
    return _merged(path.expanduser().resolve(), set())


def _merged(path: Path, seen: set[Path]) -> Config:
    if path in seen:
        raise UserError(Problem(str(path), "include", "the file includes itself, or is included twice", "drop one"))
    seen.add(path)
    found = dict(_parsed(path))
    if "include" not in found:
        return found
    includes = found.pop("include")
    merged: Config = {}
    for name in includes if isinstance(includes, list) else [includes]:
        included = _merged((path.parent / str(name)).resolve(), seen)
        included.pop("task_list", None)
        merged |= included
    return merged | found


@lru_cache(maxsize=4096)
def _parsed(path: Path) -> Config:
    """One file's own keys."""
    try:
        found = load_yaml(path.read_bytes(), _loader(path.parent))
    except (yaml.YAMLError, OSError) as error:
        problem = yaml_problem(error, str(path))
        what = problem.what.replace("not valid YAML", "cannot be read")
        raise UserError(replace(problem, what=what)) from error
    if not isinstance(found, dict):
        raise UserError(Problem(str(path), "", f"expected keys and values, found {type(found).__name__}"))
    return found


@lru_cache(maxsize=4096)
def _loader(folder: Path) -> type[yaml.SafeLoader]:
    """A YAML loader that reads `!function` in files of this folder."""

    class Loader(Bounded, FAST):
        pass

    def function(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Function:
        return Function(folder, str(loader.construct_scalar(node)))

    Loader.add_constructor("!function", function)
    return Loader


def yaml_files(root: Path) -> list[Path]:
    """All files that may define something, in lm-eval's order: of files with the same name, the first counts."""
    return sorted((path for path in _files(root) if path.suffix == ".yaml"), key=lambda path: path.as_posix())


def listing(root: Path) -> list[tuple[str, int, int]]:
    """Path, size and time of all files that a YAML file may include, to detect changes."""
    found = []
    for path in _files(root):
        if path.suffix not in (".py", ".pyc"):
            state = path.stat()
            found.append((path.relative_to(root).as_posix(), state.st_size, state.st_mtime_ns))
    return sorted(found)


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - SKIPPED)
        yield from (Path(folder, name) for name in names)


def restored(value: object, root: Path) -> Any:
    """A configuration as a task file has it, with its functions restored."""
    match value:
        case {"!function": name, "in": folder}:
            return Function(root / folder, name)
        case dict():
            return {key: restored(part, root) for key, part in value.items()}
        case list():
            return [restored(part, root) for part in value]
    return value


def functions(value: object) -> Iterator[Function]:
    """All functions in a configuration."""
    if isinstance(value, Function):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from functions(part)
