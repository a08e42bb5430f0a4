"""`include`: files of config/models or config/datasets that only give their differences from others."""

from pathlib import Path
from typing import Any

from shardmark.config.search_path import ConfigFiles, placed_values
from shardmark.config.yaml_files import read_yaml
from shardmark.errors import Problem, nearest

Values = dict[str, Any]
LONGEST = 32
"The longest chain of files that include each other."


def read_values(file: Path, root: Path, files: ConfigFiles, problems: list[Problem]) -> Any:
    """The values of a file, merged over those of the files it includes; None if one cannot be read.

    `file` is relative to `root`, or a shipped one; `files` are the files that may be included.
    """
    return _Reader(root, files, problems).read(file, [])


def files_read(file: Path, root: Path, files: ConfigFiles) -> set[Path]:
    """A file and all that it includes, directly or indirectly."""
    reader = _Reader(root, files, [])
    reader.read(file, [])
    return reader.known


class _Reader:
    """Reads each file once, however often it is included."""

    def __init__(self, root: Path, files: ConfigFiles, problems: list[Problem]) -> None:
        self._root, self._files, self._problems = root, files, problems
        self._known: dict[Path, Any] = {}

    @property
    def known(self) -> set[Path]:
        """The files that were read."""
        return {*self._known}

    def read(self, file: Path, chain: list[Path]) -> Any:
        """The values of a file; `chain` is the chain of including files, of which the last includes this one."""
        if file not in self._known:
            self._known[file] = self._merged(file, chain)
        return self._known[file]

    def _merged(self, file: Path, chain: list[Path]) -> Any:
        values = placed_values(read_yaml(self._root / file, str(file), self._problems), file)
        if not isinstance(values, dict) or "include" not in values:
            return values
        wanted = values.pop("include")
        names = wanted if isinstance(wanted, list) else [wanted]
        found: Values = {}
        for base in [*(self._included(name, file, [*chain, file]) for name in names), values]:
            if base is None:
                return None
            found = merged(found, base)
        return found

    def _included(self, name: object, file: Path, chain: list[Path]) -> Values | None:
        there = self._files.below(file)
        target = there.get(str(name).rpartition("/")[2].removesuffix(".yaml"))
        if target is None:
            self._tell(file, "include", f"there is no file {name!r} to include", nearest(str(name), there))
            return None
        if target in chain:
            round_trip = " -> ".join(map(str, [*chain[chain.index(target) :], target]))
            self._tell(chain[0], "include", f"it includes itself: {round_trip}", "remove one of these includes")
            return None
        if len(chain) > LONGEST:
            self._tell(chain[0], "include", f"more than {LONGEST} files include each other", "merge some of them")
            return None
        values = self.read(target, chain)
        if values is not None and not isinstance(values, dict):
            self._tell(target, "", "expected keys and values", "fix the file")
            return None
        return values

    def _tell(self, file: Path, key: str, what: str, fix: str) -> None:
        self._problems.append(Problem(str(file), key, what, fix))


def merged(below: Values, above: Values) -> Values:
    """Values merged over others: mappings key by key, anything else replaces the other value; null removes it."""
    found = dict(below)
    for key, value in above.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = merged(found[key], value)
        else:
            found[key] = value
    return found
