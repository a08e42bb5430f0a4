"""Work in batches that fit into memory. A batch is halved when memory runs out; finished results are kept."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
log = logging.getLogger(__name__)


@dataclass
class Limit:
    """The most that one batch may hold. The smaller bound counts, and at least one row always goes."""

    rows: int | None = None
    "The most rows; None for no bound."
    tokens: int | None = None
    "The most tokens, padding included; None for no bound."
    padding: bool = True
    "Whether rows of different lengths may share a batch."

    def halve(self, tokens: int) -> None:
        """Allow half of `tokens`, the number at which memory ran out. More of shorter rows can still share a batch."""
        self.tokens = max(1, tokens // 2)


class OutOfMemoryError(Exception):
    """A single row does not fit."""

    def __init__(self, row: Any) -> None:
        super().__init__("out of memory with a single row")
        self.row = row


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on a GPU or on the CPU."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (type(error).__name__ == "OutOfMemoryError" or "out of memory" in text or "can't allocate memory" in text)
    )


@dataclass(frozen=True)
class Batches(Generic[T, R]):
    """Runs rows, longest first, through a function in batches within a limit."""

    length: Callable[[T], int]
    "Tokens of a row."
    run: Callable[[Sequence[T]], list[R]]
    "Computes the results of a batch of rows."
    limit: Limit
    free: Callable[[], None] = lambda: None
    "Called before a smaller batch is tried, to release cached memory."

    def results(self, rows: Sequence[T]) -> Iterator[list[tuple[T, R]]]:
        """Each batch's rows with their results, as soon as they are ready. Raises OutOfMemoryError."""
        left = sorted(rows, key=self.length, reverse=True)
        while left:
            batch = left[: self._size(left)]
            results = self._tried(batch)
            if results is None:
                tokens = len(batch) * self._longest(batch)
                self.limit.halve(tokens)
                log.warning("out of memory with %d tokens; continuing with at most %d", tokens, self.limit.tokens)
                self.free()
                continue
            yield list(zip(batch, results, strict=True))
            left = left[len(batch) :]

    def _tried(self, batch: Sequence[T]) -> list[R] | None:
        """The batch's results; None if memory ran out. By then the exception is gone, and so is the memory it held."""
        try:
            return self.run(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise OutOfMemoryError(batch[0]) from error
            return None

    def _longest(self, rows: Sequence[T]) -> int:
        """Tokens of the first and longest row, at least 1."""
        return max(1, self.length(rows[0]))

    def _size(self, left: Sequence[T]) -> int:
        """The number of rows, of those left, longest first, that make the next batch."""
        size = len(left)
        if self.limit.rows:
            size = min(size, self.limit.rows)
        if self.limit.tokens:
            size = min(size, max(1, self.limit.tokens // self._longest(left)))
        if not self.limit.padding:
            first = self.length(left[0])
            size = next((n for n in range(size) if self.length(left[n]) != first), size)
        return size
