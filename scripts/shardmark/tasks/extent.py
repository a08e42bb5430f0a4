"""The part of a data set that is asked: a run's `limit`, and the rows it leaves out, which every score must state."""

import math
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from msgspec.structs import replace

from shardmark.config.run import GroupLimit
from shardmark.records.extent import ExtentRecord, PerGroup

TASK = "task"
"The kind of groups in lm-eval's data sets: each has the whole limit for itself."
NAMED = 8
"The most chosen rows of a task that a description names."
Limit = int | float | GroupLimit | None
"A number of rows, a fraction of them, or either for each group; None for all."


def share(limit: int | float, total: int) -> int:
    """The number of rows, of `total`, for a number or a fraction of rows; fractions are rounded up, as in lm-eval."""
    return math.ceil(total * limit) if limit < 1 else int(limit)


def per_task(limit: Limit) -> int | float | None:
    """A limit for each task of lm-eval, where all limits are per task."""
    return limit.per_group if isinstance(limit, GroupLimit) else limit


class Extent:
    """The rows that a limit or a choice takes, with counts of those taken and of all, in total and for each group."""

    def __init__(
        self, limit: Limit, group_by: str | None = None, chosen: Mapping[str, Collection[int]] | None = None
    ) -> None:
        """`group_by` is the kind of groups: a column of the rows, or tasks; `chosen` are the rows chosen by task."""
        self.limit, self.group_by = limit, group_by
        self.chosen = {task: sorted({*rows}) for task, rows in sorted((chosen or {}).items())}
        self.taken: Counter[str] = Counter()
        self.total: Counter[str] = Counter()
        self.samples = self.of = 0

    @property
    def needs_totals(self) -> bool:
        """Whether all rows must be counted before the limit is known."""
        return self.limit is not None and not isinstance(self.limit, int)

    def group(self, row: Mapping[str, Any]) -> str:
        """The group of a row."""
        return str(row.get(self.group_by)) if self.group_by else ""

    def full(self, group: str) -> bool:
        """Whether no more rows of a group are to be taken."""
        if self.limit is None:
            return False
        if isinstance(self.limit, GroupLimit):
            return self.taken[group] >= share(self.limit.per_group, self.total[group])
        return self.samples >= share(self.limit, self.of)

    def add(self, group: str, taken: int, total: int) -> None:
        """Note rows of a group, of which some are taken."""
        if self.limit is not None:
            self.taken[group] += taken
            self.total[group] += total
        self.samples += taken
        self.of += total

    def record(self) -> ExtentRecord | None:
        """The extent for the record; None if everything was taken."""
        if (self.limit is None and not self.chosen) or self.samples >= self.of:
            return None
        if self.chosen:
            return ExtentRecord(chosen=self.chosen, samples=self.samples, of=self.of)
        limit = PerGroup(per_group=self.limit.per_group) if isinstance(self.limit, GroupLimit) else self.limit
        found = ExtentRecord(limit=limit, samples=self.samples, of=self.of)
        if not self.group_by:
            return found
        return replace(found, group_by=self.group_by, groups=len(+self.taken), of_groups=len(self.total))


def described(record: ExtentRecord | None) -> str:
    """A record in words, such as "first 40 of 14,042 rows; 1 of 57 subjects"; empty for None."""
    if not record:
        return ""
    if record.chosen:
        named = "; ".join(f"{_some(rows)} of {task}" for task, rows in record.chosen.items())
        return f"only rows {named}: {record.samples:,} of {record.of:,} rows"
    kind = record.group_by
    each = kind if isinstance(record.limit, PerGroup) or kind == TASK else None
    asked = record.limit.per_group if isinstance(record.limit, PerGroup) else record.limit
    amount = f"{100 * asked:.4g}%" if isinstance(asked, float) else f"{asked:,}"
    rows = f"{record.samples:,} of {record.of:,} rows"
    if each:
        return f"first {amount} of each {each}: {rows}"
    groups = f"; {record.groups or 0:,} of {record.of_groups or 0:,} {_plural(kind)}" if kind else ""
    return f"first {rows}{groups}"


def _some(numbers: list[int]) -> str:
    more = f" and {len(numbers) - NAMED:,} more" if len(numbers) > NAMED else ""
    return ", ".join(map(str, numbers[:NAMED])) + more


def _plural(noun: str) -> str:
    return noun if noun.endswith("s") else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
