"""The origin of a data set's rows, as in its task file and scores: one of three classes, told apart by their keys."""

from abc import abstractmethod
from typing import Any

from msgspec import field

from shardmark.files import json_line
from shardmark.records.base import Record, convert


class Origin:
    """The origin of rows: a file, a repository on the Hub, or the sources of lm-eval's tasks."""

    __slots__ = ()

    @classmethod
    def as_written(cls, value: Any) -> "Origin":
        """The origin in a JSON value. Raises Unreadable."""
        keys = value.keys() if isinstance(value, dict) else ()
        if "lm_eval" in keys:
            return convert(value, LmEvalOrigin)
        return convert(value, FileOrigin) if "file" in keys else convert(value, HubOrigin)

    @property
    @abstractmethod
    def places(self) -> set[str]:
        """The parts that identify the origin: the path and the hash of a file, or a part of a repository."""

    @property
    def read_from(self) -> dict[str, str]:
        """The files that rows and few-shot examples are read from, with their SHA-256."""
        return {}


class FileOrigin(Record, Origin, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file on this machine, or several that are read as one."""

    file: str
    "Its path; for several files, the pattern or list that names them."
    sha256: str
    "SHA-256 of its bytes; for several files, of the list of their hashes."
    files: dict[str, str] = field(default_factory=dict)
    "If there are several: each file with its hash, in the order in which they are read."
    few_shot: Origin | None = None
    "The origin of few-shot examples that have a source of their own."

    @property
    def places(self) -> set[str]:
        """The paths and hashes."""
        return {self.file, self.sha256, *self.files, *self.files.values()}

    @property
    def read_from(self) -> dict[str, str]:
        """The files of rows, and those of the examples."""
        return (self.files or {self.file: self.sha256}) | (self.few_shot.read_from if self.few_shot else {})


class HubOrigin(Record, Origin, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a repository on the Hub."""

    hub: str
    config: str | None
    split: str
    commit: str
    few_shot: Origin | None = None
    "As in `FileOrigin`."

    @property
    def places(self) -> set[str]:
        """The part of the repository, whatever its commit."""
        return {json_line([self.hub, self.config, self.split])}

    @property
    def read_from(self) -> dict[str, str]:
        """The files of the examples."""
        return self.few_shot.read_from if self.few_shot else {}


RowsOrigin = FileOrigin | HubOrigin
"The origin of the rows of one source."


class LmEvalTasks(Record, kw_only=True):
    """The files of lm-eval's tasks."""

    tasks: str
    "Their folder."
    version: str | None
    "The version of the package, if they are from one."
    code: bool
    "Whether their own Python code may be executed."


class LmEvalOrigin(Record, Origin, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files on this machine and repositories on the Hub that hold the splits of lm-eval's tasks."""

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
