"""Where a data set's rows are from, as its task file and its scores tell: which of three classes, its keys say."""

from abc import abstractmethod
from typing import Any

from shardmark.files import json_line
from shardmark.records.base import Record, convert


class Origin:
    """Where rows are from: a file, a repository on the Hub, or what lm-eval's tasks have."""

    __slots__ = ()

    @classmethod
    def as_written(cls, value: Any) -> "Origin":
        """The origin that a JSON value is. Raises Unreadable."""
        keys = value.keys() if isinstance(value, dict) else ()
        if "lm_eval" in keys:
            return convert(value, LmEvalOrigin)
        return convert(value, FileOrigin) if "file" in keys else convert(value, HubOrigin)

    @property
    @abstractmethod
    def places(self) -> set[str]:
        """What says where the rows come from: the path and the hash of a file, or a part of a repository."""

    @property
    def read_from(self) -> dict[str, str]:
        """The files of rows and of few-shot examples, with their SHA-256."""
        return {}


class FileOrigin(Record, Origin, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file on this machine."""

    file: str
    sha256: str
    few_shot: Origin | None = None
    "Where few-shot examples are from, if they have a source of their own."

    @property
    def places(self) -> set[str]:
        """The path and the hash."""
        return {self.file, self.sha256}

    @property
    def read_from(self) -> dict[str, str]:
        """The file, and that of the examples."""
        return {self.file: self.sha256} | (self.few_shot.read_from if self.few_shot else {})


class HubOrigin(Record, Origin, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a repository on the Hub."""

    hub: str
    config: str | None
    split: str
    commit: str
    few_shot: Origin | None = None
    "As of a file."

    @property
    def places(self) -> set[str]:
        """The part, whatever its commit."""
        return {json_line([self.hub, self.config, self.split])}

    @property
    def read_from(self) -> dict[str, str]:
        """That of the examples."""
        return self.few_shot.read_from if self.few_shot else {}


RowsOrigin = FileOrigin | HubOrigin
"Where the rows of one source are from."


class LmEvalTasks(Record, kw_only=True):
    """Where the files of lm-eval's tasks are."""

    tasks: str
    "Their folder."
    version: str | None
    "Of the package, if they are from one."
    code: bool
    "Whether their own Python code may be executed."


class LmEvalOrigin(Record, Origin, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files on this machine and repositories on the Hub, which hold the splits of lm-eval's tasks."""

    lm_eval: LmEvalTasks
    files: dict[str, str]
    "Paths with their SHA-256."
    hub: dict[str, str]
    "Repositories with their commits."

    @property
    def places(self) -> set[str]:
        """The paths and hashes, and the repositories."""
        return {*self.files, *self.files.values(), *self.hub}

    @property
    def read_from(self) -> dict[str, str]:
        """The files."""
        return self.files
