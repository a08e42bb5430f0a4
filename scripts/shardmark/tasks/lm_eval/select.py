"""Data sets for the names that a run gives: a task each, or a group whose tasks are scored together."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shardmark.config import RunConfig
from shardmark.config.asking import generation_kwargs
from shardmark.config.lm_eval import LmEvalConfig
from shardmark.config.load import Named
from shardmark.config.misplaced_keys import Reads
from shardmark.errors import Problem, UserError, nearest
from shardmark.records.base import to_json
from shardmark.records.dataset import LmEvalGroup, LmEvalJudging, LmEvalRules
from shardmark.tasks.lm_eval.files import Function
from shardmark.tasks.lm_eval.index import Group, Index, Task, find, from_file
from shardmark.tasks.lm_eval.judging import missing
from shardmark.tasks.lm_eval.requests import KINDS
from shardmark.tasks.lm_eval.settings import TaskSettings, task_settings
from shardmark.tasks.lm_eval.style import Style, style_of

SPELT = "lm_eval."
"The prefix of a task's name in results, where one of our own data sets may have the same name."

MIXED = "mixed"
"The kind of a group whose tasks are of several kinds."

ANSWERED = {"choice", "generate", "rolling"}
"The kinds of requests that the engine answers."

JUDGED = ("output_type", "metric_list", "filter_list", "process_results", "repeats", "unsafe_code")
"The keys of a task that determine how its answers are scored."


@dataclass(frozen=True)
class LmEvalDataset:
    """Tasks that are one data set."""

    name: str
    "The name under which results are filed."
    file: str
    "Its name in messages."
    kind: str
    config: LmEvalConfig
    tasks: list[TaskSettings]
    group: Group | None
    "The group whose tasks these are."
    root: Path
    "The folder that contains the folders of functions."
    style: Style
    "The style in which documents are put to a model."
    asked_as: tuple[Named[LmEvalConfig], ...]
    "The names by which the run asks for it: those of files, tasks, groups or tags, or globs."

    def asked(self, chat: bool) -> "LmEvalDataset":
        """The data set as it is put to models in chats, or as texts."""
        return replace(self, style=self.style._replace(apply_chat_template=chat))

    @property
    def reads(self) -> Reads:
        """The run's settings for all data sets that it can use; a task that says 0 examples keeps to it."""
        return Reads({KINDS[task.output_type] for task in self.tasks}, any(task.num_fewshot for task in self.tasks))

    @property
    def chosen(self) -> dict[str, list[int]]:
        """The numbers of the documents that are asked, by task, of tasks that are not asked as a whole."""
        return {task.task: self.config.samples[task.task] for task in self.tasks if task.task in self.config.samples}

    @property
    def asking(self) -> list[Function]:
        """The functions of its tasks that determine the requests."""
        return [function for task in self.tasks for function in task.asking()]

    @property
    def judging(self) -> list[Function]:
        """The functions of its tasks that score answers."""
        return [function for task in self.tasks for function in task.judging()]

    def described(self) -> dict[str, Any]:
        """The facts needed for scoring, as JSON."""
        judged = LmEvalJudging(
            tasks={task.task: self._judged(task) for task in self.tasks},
            groups=[
                LmEvalGroup(
                    name=group.name,
                    tasks=[task.name for task in group.tasks()],
                    aggregates=plain(group.aggregates, self.root),
                )
                for group in (self.group.groups() if self.group else ())
            ],
        )
        return {
            "description": self.config.description,
            "kind": self.kind,
            "chance": self.config.chance,
            "lm_eval": to_json(judged),
        }

    def _judged(self, task: TaskSettings) -> LmEvalRules:
        keys = {key: plain(getattr(task, key), self.root) for key in JUDGED}
        return LmEvalRules(**keys, num_fewshot=task.num_fewshot, version=_version(task))


def _version(task: TaskSettings) -> Any:
    return task.metadata.get("version") if isinstance(task.metadata, dict) else None


def plain(value: object, root: Path) -> Any:
    """A configuration as JSON; functions by name and folder, relative to the root if below it."""
    if isinstance(value, Function):
        inside = value.folder.is_relative_to(root)
        return {"!function": value.name, "in": str(value.folder.relative_to(root) if inside else value.folder)}
    if isinstance(value, dict):
        return {str(key): plain(part, root) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, root) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def select(
    named: Named[LmEvalConfig], index: Index | None, run: RunConfig | None, problems: list[Problem]
) -> list[LmEvalDataset]:
    """The data sets for a name or a file; problems with its tasks are added to `problems`."""
    config, own_name = named.settings, named.file != "" and named.name != named.settings.lm_eval
    try:
        if config.task_path:
            path = Path(config.task_path).expanduser().resolve()
            found, root = from_file(path, index, named.file), path.parent
        else:
            if index is None:
                fix = "set lm_eval_path to an environment that has lm-eval, its package, or a folder of YAML files"
                what = f"{config.lm_eval}: the place of lm-eval's tasks is not given"
                raise UserError(Problem(named.file, "lm_eval_path", what, fix))
            found, root = find(index, str(config.lm_eval), named.file), index.root
    except UserError as error:
        problems += error.problems
        return []
    asked = _Asked(config, run)
    made = [dataset for member in found for dataset in _datasets(member, named, root, asked, problems)]
    problems += _wrong_choice(named, [task.task for dataset in made for task in dataset.tasks], run)
    if own_name and len(made) == 1:
        return [_renamed(made[0], named.name)]
    return [_renamed(dataset, f"{named.name}.{dataset.name}") if own_name else dataset for dataset in made]


def _wrong_choice(named: Named[LmEvalConfig], tasks: list[str], run: RunConfig | None) -> Iterator[Problem]:
    """Problems with `samples`, which lm-eval has instead of a limit, and by task."""
    chosen = named.settings.samples
    if chosen and run and run.limit is not None:
        yield Problem(named.file, "samples", "the run has a limit, too: lm-eval takes one or the other", "drop one")
    for task in chosen.keys() - {*tasks} if tasks else ():
        what = f"{named.settings.lm_eval or named.settings.task_path} has no task {task!r}"
        yield Problem(named.file, f"samples.{task}", what, nearest(task, tasks))


class _Asked:
    """The settings of a run and a file for asking tasks; the run's take precedence."""

    def __init__(self, config: LmEvalConfig, run: RunConfig | None) -> None:
        run = run or RunConfig()
        self.num_fewshot = config.num_fewshot if run.num_fewshot is None else run.num_fewshot
        self.generation = lm_eval_generation(generation_kwargs(run))
        self.style = style_of(config, run)
        self.metadata = {**config.metadata, **run.lm_eval_metadata}


def lm_eval_generation(given: dict[str, Any]) -> dict[str, Any]:
    """Our settings of generation by lm-eval's names; a temperature turns sampling on."""
    named = {{"stop": "until", "max_new_tokens": "max_gen_toks"}.get(key, key): value for key, value in given.items()}
    return named | {"do_sample": bool(named["temperature"])} if "temperature" in named else named


def _renamed(dataset: LmEvalDataset, name: str) -> LmEvalDataset:
    return replace(dataset, name=name.replace(SPELT, ""))


def _datasets(
    member: Task | Group,
    named: Named[LmEvalConfig],
    root: Path,
    asked: _Asked,
    problems: list[Problem],
) -> Iterator[LmEvalDataset]:
    """The data sets for a member: a group with scores of its own is one data set; any other is its members."""
    if isinstance(member, Group) and not member.aggregates:
        for part in member.members:
            yield from _datasets(part, named, root, asked, problems)
        return
    tasks = _each_once(member, named.file, problems) if isinstance(member, Group) else [member]
    settings = []
    for task in tasks:
        try:
            settings.append(_checked(task, asked))
        except UserError as error:
            problems += error.problems
    if settings and len(settings) == len(tasks):
        group = member if isinstance(member, Group) else None
        name = SPELT + re.sub(r"[^A-Za-z0-9_.-]+", "-", member.name)
        kinds = {KINDS[task.output_type] for task in settings}
        kind = kinds.pop() if len(kinds) == 1 else MIXED
        yield LmEvalDataset(name, named.file, kind, named.settings, settings, group, root, asked.style, (named,))


def _each_once(group: Group, where: str, problems: list[Problem]) -> list[Task]:
    """The tasks of a group and its subgroups, each once; a task with different changes is a problem."""
    found: dict[str, Task] = {}
    for task in group.tasks():
        if found.setdefault(task.name, task) != task:
            what = (
                f"group {group.name} has the task {task.name} several times with different settings; lm-eval scores "
                "only one"
            )
            problems.append(Problem(where, "lm_eval", what, "name its groups one by one"))
            return []
    return list(found.values())


def _checked(task: Task, asked: _Asked) -> TaskSettings:
    settings = task_settings(task, asked.num_fewshot, asked.generation)
    kind = KINDS[settings.output_type]
    if kind not in ANSWERED:
        what = f"{task.name} needs requests of kind {kind}, which no engine answers yet"
        raise UserError(Problem(task.file, "output_type", what, "leave the task out"))
    if problems := missing(settings, task.file):
        raise UserError(problems)
    if settings.custom_dataset is not None and asked.metadata:
        return settings.model_copy(update={"metadata": {**(settings.metadata or {}), **asked.metadata}})
    return settings
