"""`include`: a file of config/models or config/datasets that says only how it differs from others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shardmark.config.yaml_files import read_yaml
from shardmark.errors import Problem, nearest

Values = dict[str, Any]


def read_values(file: Path, root: Path, files: Mapping[str, Path], problems: list[Problem]) -> Any:
    """The values of a file below `root` with those of the files it includes below them; None if one cannot be read.

    `files` are the files that may be included, by name.
    """
    return _read(file, root, files, [], problems)


def _read(file: Path, root: Path, files: Mapping[str, Path], chain: list[Path], problems: list[Problem]) -> Any:
    values = read_yaml(root / file, str(file), problems)
    if not isinstance(values, dict) or "include" not in values:
        return values
    wanted = values.pop("include")
    names = wanted if isinstance(wanted, list) else [wanted]
    bases = [_included(name, file, root, files, [*chain, file], problems) for name in names]
    found: Values = {}
    for base in [*bases, values]:
        if base is None:
            return None
        found = merged(found, base)
    return found


def _included(
    name: Any, file: Path, root: Path, files: Mapping[str, Path], chain: list[Path], problems: list[Problem]
) -> Values | None:
    target = files.get(str(name).rpartition("/")[2].removesuffix(".yaml"))
    if target is None:
        what = f"there is no file {name!r} to include"
        problems.append(Problem(str(file), "include", what, nearest(str(name), files)))
        return None
    if target in chain:
        round_trip = " -> ".join(map(str, [*chain[chain.index(target) :], target]))
        problems.append(Problem(str(chain[0]), "include", f"it includes itself: {round_trip}", "break the circle"))
        return None
    values = _read(target, root, files, chain, problems)
    if values is not None and not isinstance(values, dict):
        problems.append(Problem(str(target), "", "expected keys and values", "mend the file"))
        return None
    return values


def merged(below: Values, above: Values) -> Values:
    """Values over others: mappings are merged key by key, anything else takes the other's place; null removes it."""
    found = dict(below)
    for key, value in above.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = merged(found[key], value)
        else:
            found[key] = value
    return found
