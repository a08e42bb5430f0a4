"""Metrics and filters that are the user's own Python files: find them, and check whether a run may execute them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shardmark.config.dataset import DatasetConfig
from shardmark.errors import Problem
from shardmark.filters.own import OwnFilter
from shardmark.metrics.own import OwnMetric
from shardmark.untrusted.own_code import faults

Own = OwnMetric | OwnFilter
ARGUMENTS = {"score": 3, "find": 2}
"How many arguments each function is called with."


def own_code(settings: DatasetConfig) -> Iterator[tuple[str, Own]]:
    """The metrics and filters of a data set that are files, with their keys."""
    lists: dict[str, Any] = {"metrics": settings.metrics, "filters": settings.filters}
    lists |= {f"chains.{name}": filters for name, filters in settings.chains.items()}
    for key, entries in lists.items():
        yield from ((f"{key}.{n}", each) for n, each in enumerate(entries) if isinstance(each, Own))


def code_file(own: Own, where: str, root: Path) -> Path:
    """The file of a metric or filter that the data set's file `where` names."""
    beside = root / Path(where).parent / own.file
    return beside if beside.is_file() else root / Path(os.path.expanduser(own.file))


def with_own_code(
    settings: DatasetConfig, where: str, root: Path, allowed: bool, problems: list[Problem]
) -> DatasetConfig:
    """The settings with the text of each such file filled in, which makes it part of the digest of the scores."""
    found: dict[int, Own] = {}
    for key, own in own_code(settings):
        code, wrong = _checked(own, key, where, root, allowed)
        problems += wrong
        if not wrong:
            found[id(own)] = own.model_copy(update={"code": code})

    def filled(entries: list[Any]) -> list[Any]:
        return [found.get(id(each), each) for each in entries]

    chains = {name: filled(filters) for name, filters in settings.chains.items()}
    changed = {"metrics": filled(settings.metrics), "filters": filled(settings.filters), "chains": chains}
    return settings.model_copy(update=changed) if found else settings


def _checked(own: Own, key: str, where: str, root: Path, allowed: bool) -> tuple[str, list[Problem]]:
    """The text of a file, read once, and everything that is wrong with it or with naming it."""
    path = code_file(own, where, root)
    if own.code:
        fix = "drop it, and write it into the file"
        return "", [Problem(where, f"{key}.code", "the plan reads it from the file", fix)]
    if not path.is_file():
        fix = "correct the path, or make the file: `python scripts/new_metric.py NAME` (or `shardmark new-metric NAME`)"
        return "", [Problem(where, f"{key}.file", f"no file {own.file}", fix)]
    if not allowed:
        what = f"{own.file} is Python code, which is executed only if you allow it"
        return "", [Problem(where, f"{key}.file", what, "own_code: true in the run (it runs with your permissions)")]
    try:
        code = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        return "", [Problem(str(path), "", f"not UTF-8: {error}", "save it as UTF-8")]
    fix = f"correct the file, or {key}.settings in {where}"
    found = faults(code, own.function, ARGUMENTS[own.function], own.settings)
    return code, [Problem(f"{path}:{line}", "", what, fix) for line, what in found]
