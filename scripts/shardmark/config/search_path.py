"""The search path for files of models and data sets: the user's folder, then the files shipped with Shardmark.

A clone is both at once. Elsewhere, shipped files are named by their whole path. Their relative paths are relative to
the installation, with a mark as in rsync, `INSTALLATION/./demo/data/rows.jsonl`: the part after the mark is the file's
own spelling, which the lock keeps, as it must not depend on where Shardmark is installed.
"""

import fnmatch
import os
import re
from collections import ChainMap, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from glob import has_magic
from itertools import chain
from pathlib import Path
from typing import Any

from shardmark.errors import Problem
from shardmark.installation import INSTALLATION

PATHS = (
    ("path",),
    ("tokenizer_path",),
    ("adapter",),
    ("gguf_file",),
    ("task_path",),
    ("source", "file"),
    ("few_shot", "source", "file"),
    ("few_shot", "embedding_model"),
)
"The settings of models and data sets that are paths."
MARK = f"{INSTALLATION}/./"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class ConfigFiles:
    """The YAML files of one kind, by the name that they define; the user's paths are relative to their folder."""

    own: dict[str, Path]
    shipped: dict[str, Path]
    "Empty in a clone, where they are the user's."

    @property
    def all(self) -> ChainMap[str, Path]:
        """The files in effect: of two with the same name, the user's."""
        return ChainMap(self.own, self.shipped)

    def names(self) -> list[str]:
        """The names that can be asked for, the user's first, without files that only serve to be included."""
        return [name for name in dict.fromkeys([*sorted(self.own), *sorted(self.shipped)]) if not is_part(name)]

    def matching(self, pattern: str, asked_in: Path | None = None) -> list[str]:
        """The names that match a glob: the user's, or the shipped ones if none of the user's match.

        Globs in a shipped file (`asked_in`) match shipped ones first.
        """
        mine, theirs = self._by_owner
        first, then = (theirs, mine) if asked_in and is_shipped(asked_in) else (mine, theirs)
        return filtered(first, pattern) or filtered(then, pattern)

    @cached_property
    def _by_owner(self) -> tuple[list[str], list[str]]:
        """The user's names, and the shipped ones."""
        names = self.names()
        return [name for name in names if name in self.own], [name for name in names if name in self.shipped]

    def below(self, file: Path) -> dict[str, Path]:
        """The files that a file may include: its own name means the shipped file that it replaces."""
        own_name = {file.stem: self.shipped[file.stem]} if file.stem in self.shipped else {}
        return {**self.all, **(own_name if self.own.get(file.stem) == file else {})}

    def replaced(self, name: str) -> Problem | None:
        """A note about a user's file that replaces a shipped one."""
        if name not in self.own or name not in self.shipped:
            return None
        what = f"it replaces the file of this name that Shardmark ships ({self.shipped[name]})"
        return Problem(str(self.own[name]), "", what, "")


def filtered(names: list[str], pattern: str) -> list[str]:
    """The names that match a glob. A name without wildcards is only compared: thousands of globs take seconds."""
    if has_magic(pattern):
        return fnmatch.filter(names, pattern)
    return [pattern] if pattern in names else []


def is_part(name: str) -> bool:
    """Whether a file only serves to be included by others, shown by an underscore at the start of its name."""
    return name.startswith("_")


def config_files(kind: str, root: Path, problems: list[Problem]) -> ConfigFiles:
    """The files in config/{kind} below the user's folder and of the installation; bad names are problems."""
    own = _by_name(root / "config" / kind, kind, problems, root)
    is_clone = os.path.realpath(root) == os.path.realpath(INSTALLATION)
    return ConfigFiles(own, {} if is_clone else _by_name(Path(INSTALLATION, "config", kind), kind, problems))


def is_shipped(file: Path) -> bool:
    """Whether a file belongs to an installation outside the user's folder: those are named by their whole path."""
    return file.is_absolute() and file.is_relative_to(INSTALLATION)


def shown(file: str) -> str:
    """A file's name in tables; shipped ones by their path in the installation."""
    return f"shipped: {Path(file).relative_to(INSTALLATION)}" if is_shipped(Path(file)) else file


def of_kind(file: Path, kind: str) -> bool:
    """Whether a file is one of config/{kind}."""
    inner = file.relative_to(INSTALLATION) if is_shipped(file) else file
    return inner.parts[:2] == ("config", kind)


def _by_name(folder: Path, kind: str, problems: list[Problem], root: Path | None = None) -> dict[str, Path]:
    """The YAML files below a folder by the name they define; two of one name are a problem."""
    found: dict[str, list[Path]] = defaultdict(list)
    files = (os.path.join(place, name) for place, *inner in os.walk(folder) for name in chain(*inner))
    for path in map(Path, sorted(file.removeprefix(f"{root}/") for file in files)):
        if path.suffix in (".yaml", ".yml") and not path.name.startswith("."):  # an editor's
            found[path.stem].append(path)
    for name, paths in found.items():
        if len(paths) > 1:
            others = " and ".join(map(str, paths[1:]))
            problems.append(Problem(str(paths[0]), "", f"{others} has the same name {name!r}", "rename one of them"))
        if not NAME.fullmatch(name.removeprefix("_")):
            fix = "use letters, digits, dot, dash and underscore: it becomes a folder's name"
            problems.append(Problem(str(paths[0]), "", f"{name!r} cannot be the name of one of the {kind}", fix))
    return {name: paths[0] for name, paths in found.items()}


def placed_values(values: Any, file: Path) -> Any:
    """The values of a file; relative paths in a shipped one are resolved in the installation."""
    if not is_shipped(file) or not isinstance(values, dict):
        return values
    return _changed_paths(values, _marked)


def as_spelt(values: dict[str, Any]) -> dict[str, Any]:
    """The values of settings with all paths as their files spell them: so they are the same for every installation."""
    return _changed_paths(values, spelt)


def _changed_paths(values: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    for keys in PATHS:
        values = _changed(values, keys, change)
    return values


def _changed(values: Any, keys: tuple[str, ...], change: Callable[[Any], Any]) -> Any:
    if not keys:
        return change(values)
    if not isinstance(values, dict) or keys[0] not in values:
        return values
    return values | {keys[0]: _changed(values[keys[0]], keys[1:], change)}


def _marked(value: Any) -> Any:
    """A relative path that exists in the installation, with the mark; anything else, such as a Hub id, as it is."""
    if isinstance(value, list):
        return [_marked(part) for part in value]
    is_path = isinstance(value, str) and not os.path.isabs(value) and any(Path(INSTALLATION).glob(value))
    return MARK + value if is_path else value


def spelt(path: Any) -> Any:
    """A path, or several, as their file spells them; null stays null."""
    if isinstance(path, list):
        return [spelt(part) for part in path]
    return path.removeprefix(MARK) if isinstance(path, str) else path


def portable(path: str) -> str:
    """A path for those who read scores elsewhere: of a shipped file, its place in the installation."""
    path = str(spelt(path))
    is_clone = os.path.realpath(os.curdir) == os.path.realpath(INSTALLATION)
    return path if is_clone or not is_shipped(Path(path)) else os.path.relpath(path, INSTALLATION)


def own_or_shipped(path: Path, root: Path) -> Path:
    """A file below the user's folder `root`, or the shipped one of that path if only that exists."""
    shipped = Path(INSTALLATION, path)
    return path if (root / path).exists() or not shipped.exists() else shipped


def found_in(path: str, root: Path) -> Path:
    """The file that a run names by default, in the user's folder or the installation."""
    return root / own_or_shipped(Path(os.path.expanduser(path)), root)


def places_of(file: Path, root: Path, name: str) -> Iterator[Path]:
    """The files of this name that a file of config/ may include, best first."""
    inner = file.relative_to(INSTALLATION) if is_shipped(file) else file
    folders: Iterable[Path] = (root, Path(INSTALLATION))
    for folder in folders:
        for target in folder.joinpath(*inner.parts[:2]).rglob(f"{name}.yaml"):
            yield target.relative_to(root) if folder == root else target
