"""How much of a data set is asked, where that is not all of it."""

from shardmark.records.base import Record


class PerGroup(Record, kw_only=True):
    """A limit for each group by itself."""

    per_group: int | float
    "How many rows of each, or which fraction of them."


class ExtentRecord(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a run's limit takes of a data set, as it stands in task files and scores."""

    limit: int | float | PerGroup
    "How many rows, or which fraction of them."
    samples: int
    "How many rows were taken,"
    of: int
    "of how many."
    group_by: str | None = None
    "What its groups are, if it has any."
    groups: int | None = None
    "Of how many groups rows were taken,"
    of_groups: int | None = None
    "of how many."
