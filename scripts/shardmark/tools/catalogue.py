"""All models and data sets of config/, also those whose file is broken."""

import fnmatch
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shardmark import layout
from shardmark.config import DatasetConfig, LmEvalConfig, ModelConfig, RunConfig
from shardmark.config.group import GroupConfig
from shardmark.config.include import read_values
from shardmark.config.lm_eval import PREFIX
from shardmark.config.load import files_by_name, is_group, is_lm_eval, is_part
from shardmark.config.merge import Merged
from shardmark.config.misplaced_keys import checked, checked_model
from shardmark.config.weights import WeightsConfig
from shardmark.errors import Problem
from shardmark.lock.lock import LOCK
from shardmark.printable import printable

KINDS = ("models", "datasets")


@dataclass(frozen=True)
class Entry:
    """A file of config/models or config/datasets."""

    kind: str
    "models or datasets."
    name: str
    file: str
    "Below the project's folder."
    selected: bool
    "Whether the run names it."
    about: str = ""
    "Of a model what runs it, of a data set its kind of question."
    source: str = ""
    description: str = ""
    rows: int | None = None
    "Of a data set: rows of its source; None if no lock and no earlier plan tells."
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Catalogue:
    """What config/ holds, and what is wrong with the run that selects from it."""

    entries: list[Entry]
    problems: list[Problem]


def catalogue(run: Merged, root: Path) -> Catalogue:
    """Every model and data set below `root`/config, in the order of kinds and names."""
    problems: list[Problem] = []
    chosen = checked(RunConfig, run.config, run.where, problems)
    results = root / (chosen or RunConfig()).results
    entries = [entry for kind in KINDS for entry in _entries(kind, root, chosen, results)]
    for kind in KINDS if chosen else ():
        names = [entry.name for entry in entries if entry.kind == kind]
        problems += [
            Problem(run.where, kind, f"no file config/{kind}/{pattern}.yaml", "correct the name, or drop it")
            for pattern in getattr(chosen, kind)
            if not pattern.startswith(PREFIX) and not fnmatch.filter(names, pattern)
        ]
    return Catalogue(entries, problems)


def _entries(kind: str, root: Path, run: RunConfig | None, results: Path) -> Iterator[Entry]:
    misnamed: list[Problem] = []
    patterns = getattr(run, kind) if run and not (kind == "models" and run.hf_path) else []
    files = files_by_name(root / "config" / kind, root, kind, misnamed)
    for name, file in files.items():
        if is_part(name):
            continue
        problems = [problem for problem in misnamed if problem.where == str(file)]
        values = read_values(file, root, files, problems)
        settings = _settings(kind, values, str(file), problems)
        selected = any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        facts: dict[str, Any] = {}
        if isinstance(settings, ModelConfig):
            facts = {"about": settings.backend, "source": _model_source(settings)}
        elif isinstance(settings, DatasetConfig):
            facts = {"about": settings.kind, "source": _dataset_source(settings), "rows": _rows(name, root, results)}
        elif isinstance(settings, GroupConfig):
            facts = {"about": "group", "source": f"{settings.mean} mean of {', '.join(settings.group)}"}
        elif isinstance(settings, LmEvalConfig):
            facts = {"about": "lm_eval", "source": settings.lm_eval or settings.task_path}
        if settings:
            facts["description"] = settings.description
        yield Entry(kind, name, str(file), selected, problems=problems, **facts)


def _settings(
    kind: str, values: object, file: str, problems: list[Problem]
) -> ModelConfig | DatasetConfig | GroupConfig | LmEvalConfig | None:
    if values is None:
        return None
    if kind == "models":
        return checked_model(values, file, problems)
    if is_group(values):
        return checked(GroupConfig, values, file, problems)
    if is_lm_eval(values):
        return checked(LmEvalConfig, values, file, problems)
    return checked(DatasetConfig, values, file, problems)


def _model_source(settings: ModelConfig) -> str:
    revision = settings.revision if isinstance(settings, WeightsConfig) else None
    return f"{settings.place}@{revision}" if revision else settings.place


def _dataset_source(settings: DatasetConfig) -> str:
    source = settings.source
    if source.file:
        return source.file
    parts = [str(source.hub), *filter(None, [source.config, source.split])]
    return " ".join(parts) + (f" ({source.local})" if source.local else "")


def _rows(name: str, root: Path, results: Path) -> int | None:
    """The rows of a data set's source, as the newest task file or else the lock has counted them."""
    tasks = sorted(layout.TASKS.found(results, dataset=name), key=lambda path: path.stat().st_mtime_ns)
    for task in reversed(tasks):
        try:
            with open(task, "rb") as file:
                return int(json.loads(file.readline())["dataset"]["rows"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # damaged: `verify` names it
    return _locked_rows(name, root / LOCK)


def _locked_rows(name: str, lock: Path) -> int | None:
    """The rows that a lock has for any of a data set's sources; None also if the lock is damaged."""
    try:
        records = json.loads(lock.read_bytes())["datasets"][name].values()
        return next((int(record["rows"]) for record in records if "rows" in record), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def print_catalogue(found: Catalogue, console: Console) -> None:
    """A table of models, one of data sets, then all that is wrong."""
    for kind, title in (("models", "models"), ("datasets", "data sets")):
        entries = [entry for entry in found.entries if entry.kind == kind]
        chosen = sum(entry.selected for entry in entries)
        table = Table(title=f"{len(entries)} {title}, * {chosen} of them in this run", title_justify="left")
        table.box, table.pad_edge = SIMPLE_HEAD, False
        for column in ("", "name", "file", "kind", "source", *(["rows"] if kind == "datasets" else []), "description"):
            table.add_column(column, overflow="fold", justify="right" if column == "rows" else "left")
        for entry in entries:
            table.add_row(*(escape(printable(cell)) for cell in _cells(entry)))
        console.print(table)
    for problem in found.problems:
        console.print(str(problem), markup=False, highlight=False)


def _cells(entry: Entry) -> Iterable[str]:
    star = "*" if entry.selected else ""
    rows = [] if entry.kind == "models" else [f"{entry.rows:,}" if entry.rows is not None else ""]
    if entry.problems:
        return [star, entry.name, entry.file, "broken", "", *rows, "\n".join(map(str, entry.problems))]
    return [star, entry.name, entry.file, entry.about, entry.source, *rows, entry.description]
