"""All models and data sets of config/, including those whose file is broken."""

import fnmatch
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shardmark import layout
from shardmark.config import DatasetConfig, LmEvalConfig, ModelConfig, RunConfig
from shardmark.config.dataset import Topic
from shardmark.config.group import GroupConfig
from shardmark.config.include import read_values
from shardmark.config.lm_eval import PREFIX
from shardmark.config.load import is_group, is_lm_eval
from shardmark.config.merge import Merged
from shardmark.config.misplaced_keys import checked, checked_model
from shardmark.config.parts import has_parts, split
from shardmark.config.search_path import config_files, shown, spelt
from shardmark.config.suite import PREFIX as SUITE
from shardmark.config.suite import read_suite, suite_file, suite_names, without_suites
from shardmark.config.weights import WeightsConfig
from shardmark.errors import Problem
from shardmark.lock.lock import LOCK
from shardmark.printable import printable

KINDS = ("models", "datasets")
TOPICS: tuple[str, ...] = get_args(Topic)


@dataclass(frozen=True)
class Entry:
    """A file of config/models or config/datasets."""

    kind: str
    "models or datasets."
    name: str
    file: str
    "Relative to the project's folder."
    selected: bool
    "Whether the run names it."
    about: str = ""
    "For a model its backend, for a data set its kind of question."
    source: str = ""
    description: str = ""
    topics: tuple[str, ...] = ()
    "The subjects of a data set."
    parts: tuple[str, ...] = ()
    "The names of the data sets that the file stands for, if it has parts."
    rows: int | None = None
    "For a data set, the rows of its source; None if no lock and no earlier plan has the number."
    is_replacement: bool = False
    "Whether it is the user's, and used in place of a shipped file of the same name."
    problems: list[Problem] = field(default_factory=list)

    def fits(self, words: Iterable[str], topics: Collection[str]) -> bool:
        """Whether its listed texts contain all words, and it has one of the topics."""
        texts = (self.name, self.file, self.about, self.source, self.description, *self.topics, *self.parts)
        return _have(texts, words) and (not topics or not {*topics}.isdisjoint(self.topics))


@dataclass(frozen=True)
class Suite:
    """A file of config/suites."""

    name: str
    "In the form that runs use, suite/NAME."
    file: str
    selected: bool
    description: str = ""
    datasets: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Catalogue:
    """The contents of config/, and the problems of the run that selects from it."""

    entries: list[Entry]
    problems: list[Problem]
    suites: list[Suite] = field(default_factory=list)


def catalogue(run: Merged, root: Path) -> Catalogue:
    """Every model and data set below `root`/config, sorted by kind and name."""
    problems: list[Problem] = []
    chosen = checked(RunConfig, run.config, run.where, problems)
    results = root / (chosen or RunConfig()).results
    opened = without_suites(chosen.datasets, root, run.where, problems) if chosen else []
    wanted = {"models": [(name, run.where) for name in chosen.models] if chosen else [], "datasets": opened}
    if chosen and chosen.hf_path:
        wanted["models"] = []
    entries = [entry for kind in KINDS for entry in _entries(kind, root, [name for name, _ in wanted[kind]], results)]
    for kind in KINDS:
        names = [name for entry in entries if entry.kind == kind for name in (entry.name, *entry.parts)]
        problems += [
            Problem(where, kind, f"no file config/{kind}/{pattern}.yaml", "correct the name, or drop it")
            for pattern, where in wanted[kind]
            if not pattern.startswith(PREFIX) and not fnmatch.filter(names, pattern)
        ]
    return Catalogue(entries, problems, _suites(root, chosen))


def _suites(root: Path, run: RunConfig | None) -> list[Suite]:
    found = []
    for name in (f"{SUITE}{each}" for each in suite_names(root)):
        problems: list[Problem] = []
        settings = read_suite(name, root, problems)
        facts: dict[str, Any] = {}
        if settings:
            facts = {"description": settings.description, "datasets": tuple(settings.datasets)}
        selected = run is not None and name in run.datasets
        found.append(Suite(name, str(suite_file(name, root)), selected, problems=problems, **facts))
    return found


def _entries(kind: str, root: Path, patterns: list[str], results: Path) -> Iterator[Entry]:
    misnamed: list[Problem] = []
    files = config_files(kind, root, misnamed)
    chosen = {name for pattern in patterns for name in files.matching(pattern)}
    for name in files.names():
        file = files.all[name]
        problems = [problem for problem in misnamed if problem.where == str(file)]
        values = read_values(file, root, files, problems)
        parts: dict[str, Any] = {}
        if kind == "datasets" and has_parts(values):
            parts = {each: part for each, part in split(name, values, str(file), problems).items() if each != name}
            values = next(iter(parts.values()), None)
        settings = _settings(kind, values, str(file), problems)
        selected = name in chosen or any(fnmatch.fnmatchcase(each, pattern) for each in parts for pattern in patterns)
        facts: dict[str, Any] = {"parts": tuple(parts)}
        if isinstance(settings, ModelConfig):
            facts |= {"about": settings.backend, "source": spelt(_model_source(settings))}
        elif isinstance(settings, DatasetConfig):
            counted = [_rows(each, root, results) for each in (parts or (name,))]
            rows = sum(filter(None, counted)) if None not in counted else None
            facts |= {"about": settings.kind, "source": _dataset_source(settings), "rows": rows}
            facts["topics"] = tuple(settings.topics)
        elif isinstance(settings, GroupConfig):
            facts |= {"about": "group", "source": f"{settings.mean} mean of {', '.join(settings.group)}"}
            facts["topics"] = tuple(settings.topics)
        elif isinstance(settings, LmEvalConfig):
            facts |= {"about": "lm_eval", "source": settings.lm_eval or settings.task_path}
        if settings:
            first = next(iter(parts), "").rpartition(".")[2]  # the first part's own name
            facts["description"] = settings.description.removesuffix(f" ({first})")
        facts["is_replacement"] = files.replaced(name) is not None
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
    if source.synthetic:
        return f"made here: {source.synthetic.name}"
    if source.file:
        return ", ".join(map(spelt, source.patterns))
    parts = [str(source.hub), *filter(None, [source.config, source.split])]
    return " ".join(parts) + (f" ({source.local})" if source.local else "")


def _rows(name: str, root: Path, results: Path) -> int | None:
    """The rows of a data set's source, counted by the newest task file or else the lock."""
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


def print_catalogue(
    found: Catalogue, console: Console, words: Collection[str] = (), topics: Collection[str] = ()
) -> None:
    """Print a table of models, one of data sets by topic, one of suites, then all problems.

    With words, only entries with all of them; with topics, only data sets that have one of them.
    """
    for kind, title in (("models", "models"), ("datasets", "data sets")):
        entries = [entry for entry in found.entries if entry.kind == kind and entry.fits(words, topics)]
        if (words or topics) and not entries:
            continue
        chosen = sum(entry.selected for entry in entries)
        table = _table(f"{len(entries)} {title}, * {chosen} of them in this run")
        for column in ("", "name", "file", "kind", "source", *(["rows"] if kind == "datasets" else []), "description"):
            table.add_column(column, overflow="fold", justify="right" if column == "rows" else "left")
        topic: str | None = ""
        for entry in sorted(entries, key=_place):
            if entry.topics[:1] != ((topic,) if topic else ()):
                topic = entry.topics[0] if entry.topics else None
                table.add_section()
                table.add_row("", f"[bold]{topic or 'others'}[/bold]")
            table.add_row(*(escape(printable(cell)) for cell in _cells(entry)))
        console.print(table)
    named = ((suite, (suite.name, suite.description, *suite.datasets)) for suite in found.suites if not topics)
    suites = [suite for suite, texts in named if _have(texts, words)]
    if suites:
        _print_suites(suites, console)
    elif not any(entry.fits(words, topics) for entry in found.entries):
        console.print("nothing has all of these words and one of these topics", markup=False)
    for problem in found.problems:
        console.print(str(problem), markup=False, highlight=False)


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.box, table.pad_edge = SIMPLE_HEAD, False
    return table


def _place(entry: Entry) -> tuple[int, str]:
    """The position of an entry: by its first topic, then by name."""
    return (TOPICS.index(entry.topics[0]) if entry.topics else len(TOPICS), entry.name)


def _have(texts: Iterable[str], words: Iterable[str]) -> bool:
    told = "\n".join(texts).casefold()
    return all(word.casefold() in told for word in words)


def _print_suites(suites: list[Suite], console: Console) -> None:
    table = _table(f"{len(suites)} suites (each stands for data sets)")
    for column in ("", "name", "data sets", "description"):
        table.add_column(column, overflow="fold")
    for suite in suites:
        told = "\n".join(map(str, suite.problems)) if suite.problems else suite.description
        cells = ("*" if suite.selected else "", suite.name, ", ".join(suite.datasets), told)
        table.add_row(*(escape(printable(cell)) for cell in cells))
    console.print(table)


def _cells(entry: Entry) -> Iterable[str]:
    star = "*" if entry.selected else ""
    rows = [] if entry.kind == "models" else [f"{entry.rows:,}" if entry.rows is not None else ""]
    file = f"{entry.file} (replaces the shipped one)" if entry.is_replacement else shown(entry.file)
    if entry.problems:
        return [star, entry.name, file, "broken", "", *rows, "\n".join(map(str, entry.problems))]
    about = f"{entry.about}, {len(entry.parts)} parts" if entry.parts else entry.about
    return [star, entry.name, file, about, entry.source, *rows, entry.description]
