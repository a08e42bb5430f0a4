"""The worked examples before a question.

A row's examples depend on the row and the pool of examples only, not on other rows, their order or a limit. So an
edited row changes its own examples and those of the few rows that use it as an example.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shardmark.config.few_shot import FewShot
from shardmark.errors import nearest
from shardmark.files import canonical_json
from shardmark.tasks.rows import Row
from shardmark.tasks.similar import Similar
from shardmark.untrusted.printed import gaps
from shardmark.untrusted.templates import RenderError

if TYPE_CHECKING:
    import numpy as np


class Shots:
    """Chooses among the rows that may be examples."""

    def __init__(
        self,
        settings: FewShot,
        pool: Sequence[Row],
        id_column: str | None,
        similar: Similar | None,
        twins: Callable[[Row], set[int]],
    ) -> None:
        """Prepare the choice of examples.

        `similar` scores the rows of the pool by similarity to a question, if they are picked in that way; `twins`
        returns the numbers of rows that ask the same.
        """
        self.settings, self.pool, self.id_column, self.similar, self.twins = settings, pool, id_column, similar, twins
        self._all = settings.pick is None and settings.examples is not None
        self._pick: Callable[[Row, Any], Any] = {
            None: lambda row, numbers: numbers[: settings.count],
            "first": lambda row, numbers: numbers[: settings.count],
            "ids": lambda row, numbers: self._by_id(numbers),
            "random": self._by_lot,
            "bm25": self._alike,
            "embedding": self._alike,
        }[settings.pick]

    @property
    def is_fixed(self) -> bool:
        """Whether all rows have the same examples, except rows that are examples themselves."""
        return self.settings.pick in (None, "first", "ids") and self.settings.same is None

    def of(self, row: Row) -> list[int]:
        """The numbers of a row's examples in the pool, in the order of use. Raises RenderError."""
        found = [int(number) for number in self._pick(row, self._candidates(row))]
        wanted = self.settings.count or 0
        if len(found) < wanted:
            alike = f" with its {self.settings.same}" if self.settings.same else ""
            what = f"{wanted} examples are needed, but there are {len(found)}{alike}"
            raise RenderError(
                what, "lower count (or the run's num_fewshot), or give more examples", key="few_shot.count"
            )
        return found

    def fixed(self) -> list[int]:
        """The examples of every row, if these are fixed."""
        return [int(number) for number in self._pick({}, range(len(self.pool)))]

    def _candidates(self, row: Row) -> Any:
        """The numbers of the rows that may be examples for a row: not itself, nor rows that ask the same."""
        alike = self.twins(row)
        if self._all:
            numbers: Sequence[int] = range(len(self.pool))
        else:
            numbers = self._groups[""] if self.settings.same is None else self._groups.get(self._group(row), [])
            key = row_key(row)
            if key in self._keys:
                alike = alike | {number for number in numbers if self._key_of[number] == key}
        return [number for number in numbers if number not in alike] if alike else numbers

    @cached_property
    def _key_of(self) -> list[int]:
        return [row_key(row) for row in self.pool]

    @cached_property
    def _keys(self) -> set[int]:
        return set(self._key_of)

    @cached_property
    def _groups(self) -> dict[str, list[int]]:
        """The rows of the pool by their value in the column `same`; without it, all of them under ""."""
        groups: dict[str, list[int]] = defaultdict(list)
        for number, row in enumerate(self.pool):
            groups["" if self.settings.same is None else self._group(row)].append(number)
        return groups

    def _group(self, row: Row) -> str:
        column = str(self.settings.same)
        if column not in row:
            raise RenderError(f"no column {column!r}", nearest(column, row), key="few_shot.same")
        for place, what in gaps(row[column], column):
            fix = "correct the row, or leave it out with `where`"
            raise RenderError(f"column {place} is {what}", fix, key="few_shot.same")
        return canonical_json(row[column])

    def _by_id(self, numbers: Sequence[int]) -> list[int]:
        """The rows with the given ids; without an id column, ids are numbers among them."""
        column = self.id_column
        if column is None:
            within = self._groups[""] if self.settings.same is None else self._siblings(numbers)
            named = {str(n): number for n, number in enumerate(within)}
        else:
            named = {str(self.pool[number].get(column)): number for number in numbers}
        ids = [str(name) for name in self.settings.ids or ()]
        known = {str(row.get(column)) for row in self.pool} if column else named.keys()
        if missing := [name for name in ids if name not in known]:
            raise RenderError(f"there is no example {missing[0]!r}", nearest(missing[0], known), key="few_shot.ids")
        allowed = set(numbers)
        return [named[name] for name in ids if name in named and named[name] in allowed]

    def _siblings(self, numbers: Sequence[int]) -> Sequence[int]:
        return self._groups[self._group(self.pool[numbers[0]])] if numbers else []

    @cached_property
    def _lots(self) -> Any:
        import numpy as np

        return np.array(self._key_of, dtype=np.uint64)

    def _by_lot(self, row: Row, numbers: Sequence[int]) -> Any:
        """The rows with the smallest hashes of (seed, row, example).

        A row added to the pool replaces another in few rows' examples (rendezvous hashing, D. Thaler and C.
        Ravishankar, IEEE/ACM Trans. Networking 6, 1998).
        """
        import numpy as np

        chosen = np.asarray(numbers, dtype=np.int64)
        lots = _mixed(self._lots[chosen] ^ np.uint64(row_key([self.settings.seed, row])))
        return chosen[np.argsort(lots, kind="stable")[: self.settings.count]]

    def _alike(self, row: Row, numbers: Sequence[int]) -> Any:
        """The most similar rows, the most similar one first; among equally similar ones, the earlier."""
        import numpy as np

        assert self.similar is not None
        chosen = np.asarray(numbers, dtype=np.int64)
        scores = self.similar(row)[chosen]
        return chosen[np.argsort(-scores, kind="stable")[: self.settings.count]]


def row_key(value: object) -> int:
    """64 bits of a hash of a row."""
    return int.from_bytes(hashlib.sha256(canonical_json(value).encode()).digest()[:8])


def _mixed(values: "np.ndarray") -> Any:
    """Each 64-bit number with its bits mixed (the finalizer of SplitMix64, G. Steele et al., OOPSLA 2014)."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
