"""The part of a data set that is asked, if not all of it."""

import msgspec

from shardmark.records.base import Record


class PerGroup(Record, kw_only=True):
    """A limit for each group separately."""

    per_group: int | float
    "How many rows of each group, or which fraction of them."


class ExtentRecord(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The part of a data set that a run's limit takes, as in task files and scores."""

    limit: int | float | PerGroup | None = None
    "How many rows, or which fraction of them."
    chosen: dict[str, list[int]] = msgspec.field(default_factory=dict)
    "Instead of a limit: the numbers of the rows by task, for lm-eval's tasks whose file chooses `samples`."
    samples: int
    "How many rows were taken,"
    of: int
    "of how many."
    group_by: str | None = None
    "The key that makes the groups, if there are any."
    groups: int | None = None
    "How many groups rows were taken from,"
    of_groups: int | None = None
    "of how many."
