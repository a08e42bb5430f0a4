"""The tasks, groups and tags that a folder of lm-eval's YAML files defines, and the meaning of a name.

An installed lm-eval is found without importing it. Reading its 13,000 files takes seconds, so the index is stored, and
made again when a file's size or time has changed.
"""

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardmark.errors import Problem, UserError, nearest
from shardmark.files import digest, json_line, read_sealed, sealed, write_if_changed
from shardmark.records.base import Record, Unreadable, convert, to_json
from shardmark.tasks.lm_eval.files import Config, Function, listing, read_config, yaml_files

INDEX_FORMAT = 1
"Increased whenever an index would be made differently than before."

AGGREGATE_KEYS = {"metric", "filter_list", "aggregation", "weight_by_size"}
"The keys of an entry of a group's aggregate_metric_list."

GROUP_KEYS = {"group", "group_alias", "task", "aggregate_metric_list", "metadata"}
"The keys of a group; its other keys override those of its tasks."


class Names(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An index as it is stored; see `Index`."""

    tasks: dict[str, str]
    groups: dict[str, str]
    tags: dict[str, list[str]]


@dataclass(frozen=True)
class Index:
    """The names that a folder defines. Each has one meaning: as in lm-eval, that of the first file with it."""

    root: Path
    "The folder that files are relative to."
    tasks: dict[str, str]
    "The file of each task."
    groups: dict[str, str]
    "The file of each group."
    tags: dict[str, list[str]]
    "The tasks of each tag."

    @property
    def names(self) -> set[str]:
        """All names of tasks, groups and tags."""
        return {*self.tasks, *self.groups, *self.tags}


@dataclass(frozen=True)
class Task:
    """A task by name, with the changes made by groups."""

    name: str
    config: Config = field(hash=False)
    "All its keys, with Function for code to import."
    file: str
    "The file that defines it."


@dataclass(frozen=True)
class Group:
    """A group: its tasks and subgroups, and the scores that are aggregated over all tasks below it."""

    name: str
    members: list["Task | Group"]
    aggregates: list[Config]
    "lm-eval's aggregate_metric_list: metric, filter_list, aggregation, weight_by_size."

    def tasks(self) -> Iterator[Task]:
        """All tasks below it, in order."""
        for member in self.members:
            if isinstance(member, Group):
                yield from member.tasks()
            else:
                yield member

    def groups(self) -> Iterator["Group"]:
        """The group itself and all groups below it."""
        yield self
        for member in self.members:
            if isinstance(member, Group):
                yield from member.groups()


def tasks_folder(path: Path, where: str) -> Path:
    """The folder of YAML files for `lm_eval_path`: itself, that of a package, or that of an environment.

    An environment is given by its folder, its site-packages or its python. Raises UserError.
    """
    path = path.expanduser()
    if path.is_file() and path.name.startswith("python"):
        path = path.parent.parent  # not resolved: an environment's python is a link to another one
    packages = [path, path / "lm_eval", *sorted(path.glob("lib/python3*/site-packages/lm_eval"))]
    for package in packages:
        if (package / "__init__.py").is_file() and (package / "tasks").is_dir():
            return (package / "tasks").resolve()
    if path.is_dir():
        return path.resolve()
    fix = "name a folder of lm-eval's YAML files, its package, or an environment that has it"
    raise UserError(Problem(where, "lm_eval_path", f"no folder {path}", fix))


def package_folder(root: Path) -> Path | None:
    """The lm_eval package that a folder of tasks belongs to; None for the user's own folder."""
    package = root.parent
    return package if root.name == "tasks" and (package / "__init__.py").is_file() else None


def package_version(root: Path) -> str | None:
    """The version of the lm_eval package that a folder of tasks belongs to, from its metadata."""
    package = package_folder(root)
    found = sorted(package.parent.glob("lm_eval-*.dist-info")) if package else []
    return found[0].name.removeprefix("lm_eval-").removesuffix(".dist-info") if found else None


def read_index(root: Path, kept: Path | None = None) -> Index:
    """The index of a folder, read from the folder `kept` if it was made before."""
    made_from = digest([str(root), _state(root), INDEX_FORMAT])
    file = kept / f"{made_from}.json" if kept else None
    names = _kept(file) if file else None
    if names is None:
        names = _names(root)
        if file:
            write_if_changed(file, json_line(sealed(to_json(names))))
    return Index(root, names.tasks, names.groups, names.tags)


def _kept(file: Path) -> Names | None:
    """The names in an index file; None if it is missing or damaged."""
    try:
        return convert(read_sealed(file), Names)
    except Unreadable:
        return None


def _state(root: Path) -> Any:
    """A state that changes when files are added or renamed: an installed package's list of files, else all files.

    Checking each of a package's files would take too long for every parse of the Snakefile, and their contents are read
    again in any case.
    """
    package = package_folder(root)
    for record in package.parent.glob("lm_eval-*.dist-info/RECORD") if package else ():
        state = record.stat()
        return [record.parent.name, state.st_size, state.st_mtime_ns]
    return listing(root)


def _names(root: Path) -> Names:
    """The names in the order of their files. Invalid files define nothing, as in lm-eval."""
    tasks: dict[str, str] = {}
    groups: dict[str, str] = {}
    tags: dict[str, list[str]] = {}
    for path in yaml_files(root):
        try:
            config = read_config(path)
        except UserError:
            continue
        file = path.relative_to(root).as_posix()
        is_group = "group" in config and "class" not in config
        name = config.get("group" if is_group else "task")
        if not isinstance(name, str) or name in tasks or name in groups or name in tags:
            continue
        (groups if is_group else tasks)[name] = file
        for tag in _tags(config) if not is_group else ():
            if tag not in tasks and tag not in groups:
                tags.setdefault(tag, []).append(name)
    return Names(tasks=tasks, groups=groups, tags={tag: sorted(set(names)) for tag, names in tags.items()})


def _tags(config: Config) -> list[str]:
    given = config.get("tag") or []
    return [given] if isinstance(given, str) else list(map(str, given))


def find(index: Index, pattern: str, where: str) -> list[Task | Group]:
    """The tasks and groups for a name or a glob; for tags, their tasks. Raises UserError.

    A glob is matched with names of tasks only, so that it never means a task twice.
    """
    if pattern in index.names:
        return _named(index, pattern, {}, where)
    names = fnmatch.filter(sorted(index.tasks), pattern)
    if not names:
        what = f"there is no task, group or tag {pattern!r} in {index.root}"
        raise UserError(Problem(where, "lm_eval", what, nearest(pattern, index.names)))
    return [_task(index, name, {}) for name in names]


def from_file(path: Path, index: Index | None, where: str) -> list[Task | Group]:
    """The task or group that a YAML file defines. Raises UserError."""
    config = read_config(path)
    if "group" in config and "class" not in config:
        return [_group(index or Index(path.parent, {}, {}, {}), str(config["group"]), config, {}, where)]
    if "task" not in config:
        raise UserError(Problem(str(path), "task", "is required", "give the task a name"))
    return [Task(str(config["task"]), config, str(path))]


def _named(index: Index, name: str, overrides: Config, where: str) -> list[Task | Group]:
    if name in index.tasks:
        return [_task(index, name, overrides)]
    if name in index.groups:
        return [_group(index, name, read_config(index.root / index.groups[name]), overrides, where)]
    return [_task(index, task, overrides) for task in index.tags[name]]


def _task(index: Index, name: str, overrides: Config) -> Task:
    file = index.tasks[name]
    config = read_config(index.root / file) | overrides
    return Task(str(config.get("task", name)), config, file)


def _group(index: Index, name: str, config: Config, overrides: Config, where: str) -> Group:
    """A group with its members; keys that are not a group's own override those of its tasks."""
    passed_on = {key: value for key, value in config.items() if key not in GROUP_KEYS} | overrides
    passed_on.pop("tag", None)
    given = config.get("task") or []
    members: list[Task | Group] = []
    for item in [given] if isinstance(given, str) else given:
        members += _members(index, name, item, passed_on, where)
    aggregates = config.get("aggregate_metric_list") or []
    aggregates = [aggregates] if isinstance(aggregates, dict) else list(aggregates)
    if problems := [problem for number, one in enumerate(aggregates) for problem in _strange(name, number, one, where)]:
        raise UserError(problems)
    return Group(name, _each_once(name, members, where), aggregates)


def _strange(group: str, number: int, aggregate: object, where: str) -> Iterator[Problem]:
    """Problems for which lm-eval refuses an entry of aggregate_metric_list."""
    key = f"aggregate_metric_list.{number}"
    if not isinstance(aggregate, dict) or not isinstance(aggregate.get("metric"), str):
        yield Problem(where, key, f"group {group}: {aggregate!r} names no metric", "metric: NAME")
        return
    for unknown in sorted(map(str, aggregate.keys() - AGGREGATE_KEYS)):
        yield Problem(where, f"{key}.{unknown}", f"group {group}: unknown key", nearest(unknown, AGGREGATE_KEYS))
    aggregation = aggregate.get("aggregation", "mean")
    if aggregation != "mean" and not isinstance(aggregation, Function):
        what = f"group {group}: there is no aggregation {aggregation!r} of groups; lm-eval has none either"
        yield Problem(where, f"{key}.aggregation", what, "mean")


def _each_once(group: str, members: list[Task | Group], where: str) -> list[Task | Group]:
    """The members of a group, each name once, as in lm-eval. Raises UserError if a name means several tasks.

    lm-eval keeps only the last task with a name, so a group of 57 tasks with the same name would score one of them.
    """
    found: dict[str, Task | Group] = {}
    for member in members:
        before = found.setdefault(member.name, member)
        if before != member:
            what = f"group {group} has several tasks named {member.name}, of which lm-eval scores only one"
            raise UserError(Problem(where, "lm_eval", what, "name its tasks and groups one by one instead"))
    return list(found.values())


def _members(index: Index, group: str, item: object, overrides: Config, where: str) -> list[Task | Group]:
    """The members for one entry of a group's list."""
    if isinstance(item, str):
        item, own = {"task": item}, {}
    elif isinstance(item, dict) and ("group" in item or "task" in item):
        own = item
    else:
        what = f"group {group}: {item!r} is neither a name nor a mapping with task or group"
        raise UserError(Problem(where, "lm_eval", what, "fix the group's file"))
    if "group" in own:
        name = str(own["group"])
        if name in index.groups:
            return _named(index, name, overrides | {k: v for k, v in own.items() if k != "group"}, where)
        return [_group(index, f"{group}::{name}", own, overrides, where)]
    name = str(item["task"])
    merged = overrides | own
    if name in index.groups:
        return _named(index, name, merged, where)
    if name in index.tasks or name in index.tags:
        names = [name] if name in index.tasks else index.tags[name]
        return [_task(index, task, {"task": task} | merged) for task in names]
    if "doc_to_text" not in merged:
        what = f"group {group} names {name!r}, which does not exist"
        raise UserError(Problem(where, "lm_eval", what, nearest(name, index.names)))
    return [Task(f"{group}::{name}", merged | {"task": f"{group}::{name}"}, index.groups.get(group, ""))]
