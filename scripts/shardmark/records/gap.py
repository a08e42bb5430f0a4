"""A model on a data set without scores, for the report of a run that ended with failures."""

from typing import Literal

from shardmark.records.base import Record


class Name(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model or data set by name and digest."""

    name: str
    digest: str


class Gap(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model on a data set without scores; `log` is a path, or empty where no job has run."""

    model: Name
    dataset: Name
    status: Literal["failed", "not run", "incomplete"]
    reason: str
    log: str = ""

    @property
    def text(self) -> str:
        """Status, reason and log in one line."""
        return f"{self.status}: {self.reason}" + (f" ({self.log})" if self.log else "")
