"""Sources of a task's splits: files below data_root, by a mapping from Hub ids, or the Hub."""

import glob
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from shardmark.config.base import validate
from shardmark.config.yaml_files import read_yaml
from shardmark.errors import Problem, UserError
from shardmark.settings import Settings
from shardmark.tasks.lm_eval.code import Code
from shardmark.tasks.lm_eval.made import made_files
from shardmark.tasks.lm_eval.settings import TaskSettings
from shardmark.tasks.lm_eval.wanted import draws_lots

DROPPED = {"trust_remote_code", "verification_mode"}
"Keys of dataset_kwargs that have no effect on rows, or that `datasets` no longer knows."


class LocalData(Settings):
    """Files that replace a configuration of a data set on the Hub. `{split}` and `{config}` are filled in."""

    file: str
    "The JSON-lines file below data_root."
    where: dict[str, Any] = Field(default={})
    "Only rows that have these values in these columns, e.g. {subject: '{config}'}."
    columns: dict[str, Any] = Field(default={})
    "Columns with the same value in each row, added to the file's."
    rename: dict[str, str] = Field(default={})
    "Columns with other names on the Hub: the file's name, and the Hub's."
    drop: list[str] = Field(default=[])
    "Columns of the file that the Hub's rows do not have."
    splits: dict[str, str] = Field(default={})
    "Values for `{split}` if the file's name differs from the split's."
    only: list[str] | None = None
    "The splits that exist; by default, any whose file is there."


@dataclass(frozen=True)
class Part:
    """One split of a task, not read yet."""

    split: str
    file: Path | None
    "The JSON-lines file, or None for the Hub."
    local: LocalData | None = None
    hub: str | None = None
    config: str | None = None
    own: "OwnFiles | None" = None
    "Files that the task itself names, instead of `file` and `hub`."
    label: str = ""
    "The lock's name for a file whose rows the task's own function has made."

    @property
    def files(self) -> list[Path]:
        """All its files on this machine; none for rows of the Hub."""
        return [self.file] if self.file else self.own.all_files() if self.own else []


@dataclass(frozen=True)
class OwnFiles:
    """A task's `dataset_path: csv` (or json, ...) and `dataset_kwargs` as arguments for `datasets`, as in lm-eval."""

    loader: str
    data_files: dict[str, list[str]]
    "By split."
    options: dict[str, Any]

    def all_files(self) -> list[Path]:
        """The files of all splits."""
        return [Path(name) for names in self.data_files.values() for name in names]

    def read(self, split: str) -> Any:
        """The split as read by `datasets`, which guesses types of columns as it does for lm-eval."""
        from datasets import disable_progress_bars, load_dataset

        disable_progress_bars()
        with tempfile.TemporaryDirectory() as cache:
            return load_dataset(
                self.loader,
                data_files=self.data_files,
                split=split,
                cache_dir=cache,
                keep_in_memory=True,
                **self.options,
            )


LOADERS = {"json", "csv", "parquet", "arrow", "text"}
"The file readers of `datasets`, except `pandas`, which would unpickle files."


class DataMap:
    """The mapping file: a Hub id, its configurations (`*` for any), and the files that replace them."""

    def __init__(self, entries: Mapping[str, Mapping[str, LocalData]], root: Path, file: str) -> None:
        self.entries, self.root, self.file = entries, root, file

    def part(self, hub: str, config: str | None, split: str, named_files: bool = False) -> Part | None:
        """The file of a split; None if the mapping has none, or it is not there.

        With `named_files`, `config` are the task's data_files, which `*` does not match: it would be one file for all.
        """
        part = self._named(hub, config, split, named_files)
        return part if part and part.file and part.file.is_file() else None

    def missing(
        self, hub: str, config: str | None, split: str, where: str, task: str, named_files: bool = False
    ) -> Problem:
        """The problem of a split without a file: the mapping has none, or the file is not there."""
        what = f"{hub}{f', {config}' if config else ''} has no {split} split there, which {task} needs"
        if part := self._named(hub, config, split, named_files):
            return Problem(where, "data_root", f"{what}: {part.file} is missing", "add it there, or leave the task out")
        if named_files:
            line = f"{hub}: {{{json.dumps(config, ensure_ascii=False)}: FILE}}"
            fix = f"name its file in {self.file} (or in your own mapping, lm_eval_data): {line}"
            return Problem(where, "data_root", what, f"{fix}; with data_files, one file for all (*) is not enough")
        fix = f"name its file in {self.file} (or in your own mapping, lm_eval_data), or leave the task out"
        return Problem(where, "data_root", what, fix)

    def _named(self, hub: str, config: str | None, split: str, named_files: bool) -> Part | None:
        """The file that the mapping gives for a split, whether it exists or not."""
        configs = self.entries.get(hub, {})
        name = config or "default"
        local = configs.get(name) or (None if named_files else configs.get("*"))
        if local is None or (local.only is not None and split not in local.only):
            return None
        filled = {"split": local.splits.get(split, split), "config": name}
        where = {key: _filled(value, filled) for key, value in local.where.items()}
        found = local.model_copy(update={"where": where})
        return Part(split, self.root / local.file.format(**filled), found, hub, config)


def _filled(value: object, values: dict[str, str]) -> Any:
    return value.format(**values) if isinstance(value, str) else value


def read_data_map(path: Path, root: Path) -> DataMap:
    """The mapping in a YAML file, for a data_root. Raises UserError."""
    problems: list[Problem] = []
    found = read_yaml(path, str(path), problems) if path.is_file() else {}
    entries: dict[str, dict[str, LocalData]] = {}
    for hub, configs in (found or {}).items():
        if not isinstance(configs, dict) or "file" in configs:
            configs = {"*": configs}
        entries[hub] = {}
        for name, value in configs.items():
            local = validate(
                LocalData, {"file": value} if isinstance(value, str) else value, f"{path}: {hub}", problems
            )
            if local:
                entries[hub][str(name)] = local
    if problems:
        raise UserError(problems)
    return DataMap(entries, root.expanduser(), str(path))


def parts(settings: TaskSettings, data: DataMap | None, where: str, code: Code | None = None) -> list[Part]:
    """The splits a task reads. Raises UserError for data found neither in files nor on the Hub.

    Splits that a task's own function makes are made, if `code` allows it and they are not stored yet.
    """
    wanted = [str(settings.eval_split)]
    drawn = settings.num_fewshot or any(draws_lots(f.file) for f in settings.processing() if f.file)
    if drawn and settings.shot_split is not None and settings.shot_split not in wanted:
        wanted.append(settings.shot_split)
    if settings.custom_dataset is not None:
        made = made_files(settings, wanted, code or Code(Path(), False, where), where)
        return [Part(split, file, label=f"{settings.task}:{split}") for split, file in made.items()]
    hub, config = str(settings.dataset_path), None if settings.dataset_name is None else str(settings.dataset_name)
    if own := _own_files(settings, where, data):
        for split in wanted:
            data_files(settings, split, where)
        return [Part(split, None, hub=hub, own=own) for split in wanted]
    named = [data_files(settings, split, where) for split in wanted]
    asked = [(hub, config if files is None else files, split) for files, split in zip(named, wanted, strict=True)]
    files = named[0] is not None
    found = [data.part(*place, files) if data else None for place in asked]
    absent = [place for place, part in zip(asked, found, strict=True) if data and not part]
    if data and absent:
        raise UserError(data.missing(*place, where, settings.task, files) for place in absent)
    return [part or _on_hub(settings, hub, config, split, where) for split, part in zip(wanted, found, strict=True)]


def data_files(settings: TaskSettings, split: str, where: str) -> str | None:
    """A task's data_files (and data_dir) for a split, as one text; None if it has none.

    The text distinguishes tasks with one dataset_path, such as json. Raises UserError for a split that they do not
    have.
    """
    given = settings.dataset_kwargs or {}
    files, folder = given.get("data_files"), given.get("data_dir")
    if files is None:
        return None if folder is None else str(folder)
    by_split = files if isinstance(files, dict) else {"train": files}
    if split not in by_split:
        what = f"{settings.task} reads the split {split}, but its data_files have {', '.join(map(str, by_split))}"
        fix = f"data_files: {{{split}: FILE}}" + (
            "" if isinstance(files, dict) else "; those without a split are train"
        )
        raise UserError(Problem(where, "dataset_kwargs.data_files", what, fix))
    names = by_split[split] if isinstance(by_split[split], list) else [by_split[split]]
    return ", ".join(f"{folder}/{name}" if folder is not None else str(name) for name in names)


def _own_files(settings: TaskSettings, where: str, data: DataMap | None) -> OwnFiles | None:
    """The files that a task names itself; None if it names none here. Raises UserError for one that is missing.

    A mapping for data_root takes precedence, and is needed for network addresses.
    """
    loader, options = str(settings.dataset_path), dict(settings.dataset_kwargs or {})
    given, folder = options.pop("data_files", None), options.pop("data_dir", None)
    if loader not in LOADERS or given is None or (data and loader in data.entries):
        return None
    by_split = given if isinstance(given, dict) else {"train": given}
    found: dict[str, list[str]] = {}
    problems = []
    for split, names in by_split.items():
        found[split] = []
        for name in names if isinstance(names, list) else [names]:
            path = os.path.expanduser(os.path.join(folder, name) if folder else str(name))
            if "://" in path:
                return None
            matching = [path] if os.path.isfile(path) else sorted(glob.glob(path, recursive=True))
            found[split] += matching
            if not matching:
                fix = "correct the path: it is relative to the folder where the run is started"
                problems.append(Problem(where, f"dataset_kwargs.data_files.{split}", f"no file {path}", fix))
    if problems:
        raise UserError(problems)
    return OwnFiles(loader, found, {key: value for key, value in options.items() if key not in DROPPED})


def _on_hub(settings: TaskSettings, hub: str, config: str | None, split: str, where: str) -> Part:
    others = set(settings.dataset_kwargs or {}) - DROPPED
    if others:
        what = f"{settings.task} has dataset_kwargs {', '.join(sorted(others))}, which are not supported for the Hub"
        raise UserError(
            Problem(where, "dataset_kwargs", what, "provide its rows through data_root and the mapping file")
        )
    return Part(split, None, None, hub, config)


def as_dataset(rows: Iterable[dict[str, Any]], local: LocalData | None = None) -> Any:
    """Rows as the `datasets.Dataset` that tasks' own code expects. Raises ValueError for columns of mixed types."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()  # tasks map and filter their rows while a run is planned
    found = list(_mapped(rows, local) if local else rows)
    columns = {column: None for row in found for column in row}
    return Dataset.from_dict({column: [row.get(column) for row in found] for column in columns})


def _mapped(rows: Iterable[dict[str, Any]], local: LocalData) -> Iterator[dict[str, Any]]:
    for row in rows:
        if all(row.get(column) == value for column, value in local.where.items()):
            kept = {local.rename.get(key, key): value for key, value in row.items() if key not in local.drop}
            yield kept | local.columns
