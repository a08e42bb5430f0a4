"""Shared prefixes of token rows: a tree, so that each shared part goes through the model once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from shardmark.tasks.requests import shared_length

LEAST_SAVED = 64
"A shared part that saves fewer tokens than this is not worth a forward pass of its own."


@dataclass(frozen=True, eq=False)
class Prefix:
    """A part of several rows, from token `start` on, after its parent's part. Equal to itself only."""

    tokens: tuple[int, ...]
    start: int
    parent: "Prefix | None"

    @property
    def end(self) -> int:
        """The position after its last token."""
        return self.start + len(self.tokens)

    def chain(self) -> Iterator["Prefix"]:
        """This part and all before it, the last first."""
        here: Prefix | None = self
        while here:
            yield here
            here = here.parent


def shared_prefixes(
    rows: Sequence[Sequence[int]], weights: Sequence[int] | None = None, least: int = LEAST_SAVED
) -> list[tuple[int, Prefix | None]]:
    """Each row's number and its longest shared prefix, in an order that keeps rows of one prefix together.

    Within a prefix, and among prefixes, the largest weight comes first (the length, unless weights are given). A row
    always keeps one token, its last, for itself.
    """
    heavy = [len(row) for row in rows] if weights is None else list(weights)
    order = sorted(range(len(rows)), key=lambda n: tuple(rows[n]))
    common = [shared_length(rows[a], rows[b]) for a, b in pairwise(order)]
    found: list[tuple[int, Prefix | None]] = []
    stack: list[tuple[int, int, Prefix | None]] = [(0, len(order), None)] if rows else []
    while stack:
        first, last, prefix = stack.pop()
        if last - first == 1:
            found.append((order[first], prefix))
            continue
        shared = min(*common[first : last - 1], *(len(rows[n]) - 1 for n in order[first:last]))
        start = prefix.end if prefix else 0
        if (last - first - 1) * (shared - start) >= least:
            prefix = Prefix(tuple(rows[order[first]][start:shared]), start, prefix)
        alone = [len(rows[n]) - 1 <= shared for n in order[first:last]]
        cuts = [
            n + 1
            for n in range(first, last - 1)
            if common[n] <= shared or alone[n - first] or alone[n - first + 1]  # the latter have no tokens left
        ]
        parts = list(zip([first, *cuts], [*cuts, last], strict=True))
        parts.sort(key=lambda part: max(heavy[n] for n in order[part[0] : part[1]]))
        stack += [(a, b, prefix) for a, b in parts]
    return found
