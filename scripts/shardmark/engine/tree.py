"""The scored rows of a shard as one tree of tokens, and its way through a model in chunks.

Rows that begin alike share the tokens they begin with: each distinct prefix is in the tree once, so the model computes
it once. The tokens are in depth-first order, as they appear in the sorted rows. Two properties follow from this order:

- A token is seen by itself and its descendants, which follow it without a gap: an interval, `[n, end[n])`.
- After any cut, later tokens need only one path of those before it: the ancestors of the first later token. So a chunk
  is any run of tokens; between two chunks, the keys and values of one path are kept, never more than the length of a
  row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardmark.engine.tokens import ScoredRow
from shardmark.tasks.requests import shared_length

Numbers = npt.NDArray[np.int64]


@dataclass
class Budget:
    """The most that one forward pass may hold; at least one token always goes."""

    tokens: int
    "The most new tokens."
    outputs: int
    "The most positions at which the output layer runs."
    rows: int | None = None
    "The most branches; None for no bound."

    def halve(self, tokens: int) -> None:
        """Allow half of `tokens`, the number at which memory ran out."""
        self.tokens = max(1, tokens // 2)


@dataclass(frozen=True)
class Chunk:
    """Tokens that go through the model together, after a path that has been computed before them.

    The columns are the tokens that the new tokens attend to: the path's tokens in order of depth, then the new ones
    themselves. Column c is seen by the new tokens `seen_from[c]` to `seen_until[c] - 1`, counted from the chunk's
    start.
    """

    start: int
    stop: int
    tokens: Numbers
    "The new tokens, `[stop - start]`."
    depth: Numbers
    "The depth of each column, 0 for the root: its position in its row, `[past + stop - start]`."
    seen_from: Numbers
    seen_until: Numbers
    keep: Numbers
    "The columns that make up the path of the next chunk."
    outputs: Numbers
    "The new tokens, counted from the chunk's start, after which the output layer runs."
    slots: slice
    "The range of values that these outputs give, in order."
    slot_outputs: Numbers
    "For each of these values, the index of its output in `outputs`."
    slot_targets: Numbers
    "For each of these values, the token whose log-likelihood it is."

    @property
    def past(self) -> int:
        """Tokens of the path before the chunk."""
        return len(self.depth) - len(self.tokens)


class TokenTree:
    """The tree of some rows' inputs.

    A value is the log-likelihood of one token after another one of the tree. A value that several rows need, as rows do
    whose whole prompt is scored, is computed once.
    """

    def __init__(self, rows: Sequence[ScoredRow]) -> None:
        self.order = sorted(range(len(rows)), key=lambda n: rows[n].inputs)
        "Row numbers in the order in which they finish."
        builder = _Builder()
        paths = [builder.add(rows[n].inputs) for n in self.order]
        self.tokens = _numbers(builder.tokens)
        self.depth = _numbers(builder.depth)
        self.end = _numbers(builder.ends())
        "The position after each token's last descendant, `[tokens]`."
        self.branches = _numbers(builder.branches)
        "The tokens that begin a branch, in order."
        self.last = _numbers([path[-1] for path in paths])
        "The last token of each row in `order`. Never decreasing."
        self.row_slots, self.slot_place, self.slot_target = _slots([rows[n] for n in self.order], paths)
        self.output_places = np.unique(self.slot_place)
        "The tokens after which the output layer runs, in order."

    def __len__(self) -> int:
        return len(self.tokens)

    def chunk(self, start: int, path: Numbers, budget: Budget) -> Chunk:
        """The next chunk, from token `start` on. `path` are the token's ancestors, in order of depth."""
        stop = self._stop(start, budget)
        columns = np.concatenate([path, np.arange(start, stop)])
        low, high = np.searchsorted(self.slot_place, [start, stop])
        outputs, slot_outputs = np.unique(self.slot_place[low:high], return_inverse=True)
        return Chunk(
            start=start,
            stop=stop,
            tokens=self.tokens[start:stop],
            depth=self.depth[columns],
            seen_from=np.maximum(columns - start, 0),
            seen_until=np.minimum(self.end[columns], stop) - start,
            keep=np.flatnonzero(self.end[columns] > stop),
            outputs=outputs - start,
            slots=slice(int(low), int(high)),
            slot_outputs=slot_outputs,
            slot_targets=self.slot_target[low:high],
        )

    def path_after(self, chunk: Chunk, path: Numbers) -> Numbers:
        """The ancestors of the token after a chunk whose path was `path`."""
        return np.concatenate([path, np.arange(chunk.start, chunk.stop)])[chunk.keep]

    def _stop(self, start: int, budget: Budget) -> int:
        stop = min(len(self), start + budget.tokens)
        first = int(np.searchsorted(self.output_places, start))
        if first + budget.outputs < len(self.output_places):
            stop = min(stop, int(self.output_places[first + budget.outputs]))
        if budget.rows:
            after = int(np.searchsorted(self.branches, start, side="right")) + budget.rows - 1
            if after < len(self.branches):
                stop = min(stop, int(self.branches[after]))
        return max(stop, start + 1)


class _Builder:
    """Takes rows in sorted order and lays their tokens down depth first."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.depth: list[int] = []
        self.branches: list[int] = []
        self._end: list[int] = []
        self._row: list[int] = []
        self._path: list[int] = []

    def add(self, row: list[int]) -> Numbers:
        """Add a row; returns the tree's tokens for it, `[len(row)]`."""
        shared = shared_length(self._row, row)
        size = len(self.tokens)
        for closed in self._path[shared:]:
            self._end[closed] = size
        new = row[shared:]
        if new:
            self.branches.append(size)
        self.tokens += new
        self.depth += range(shared, len(row))
        self._end += [0] * len(new)
        self._path = self._path[:shared] + list(range(size, size + len(new)))
        self._row = row
        return _numbers(self._path)

    def ends(self) -> list[int]:
        """The position after each token's last descendant. Nothing can be added after this call."""
        for open_ in self._path:
            self._end[open_] = len(self.tokens)
        return self._end


def _slots(rows: list[ScoredRow], paths: list[Numbers]) -> tuple[list[Numbers], Numbers, Numbers]:
    """Each row's values; and the place (the token before) and target of each value, in order of place.

    All scored tokens of a row but the last are themselves in the tree, where they stand for "this token after its
    parent". The last one is no input: it stands for itself, after the row's last input.
    """
    numbers: dict[tuple[int, int], int] = {}
    wanted: list[list[int]] = []
    for row, path in zip(rows, paths, strict=True):
        places = path[len(path) - len(row.scored) :].tolist()
        wanted.append([numbers.setdefault(key, len(numbers)) for key in zip(places, row.scored, strict=True)])
    place, target = _numbers([p for p, _ in numbers]), _numbers([t for _, t in numbers])
    order = np.lexsort((target, place))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return [rank[_numbers(row)] for row in wanted], place[order], target[order]


def _numbers(values: Sequence[int]) -> Numbers:
    return np.array(values, dtype=np.int64)
