"""Batches answer each row once, whatever fits the memory, and keep their limits."""

import gc
import math
import weakref
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmark.engine.batches import Batches, Limit, OutOfMemoryError, is_out_of_memory

Row = tuple[int, int]
"A row's number and its length."

lengths = st.lists(st.integers(0, 50), max_size=40)
rows_limits = st.none() | st.integers(1, 10)
token_limits = st.none() | st.integers(1, 200)


class Memory:
    """Answers each row with its number, as long as a batch has at most `size` tokens with its padding."""

    def __init__(self, size: float = math.inf) -> None:
        self.size = size
        self.tried: list[list[Row]] = []

    def run(self, batch: Sequence[Row]) -> list[int]:
        self.tried.append(list(batch))
        if padded(batch) > self.size:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [number for number, _ in batch]


def padded(batch: Sequence[Row]) -> int:
    return len(batch) * max(length for _, length in batch)


def batches(memory: Memory, limit: Limit) -> Batches[Row, int]:
    return Batches(length=lambda row: row[1], run=memory.run, limit=limit)


@given(lengths, st.integers(50, 500), rows_limits, token_limits, st.booleans())
def test_each_row_is_answered_once_in_finite_tries(
    lengths: list[int], size: int, most_rows: int | None, most_tokens: int | None, padding: bool
) -> None:
    memory = Memory(size)
    rows = list(enumerate(lengths))
    given_tokens = padded(rows) if rows else 0
    results = [pair for done in batches(memory, Limit(most_rows, most_tokens, padding)).results(rows) for pair in done]
    assert Counter(row for row, _ in results) == Counter(rows)
    assert all(number == row[0] for row, number in results)
    assert len(memory.tried) <= len(rows) + math.log2(given_tokens + 1) + 1


@given(lengths.filter(bool), rows_limits, token_limits, st.booleans())
def test_limits_are_kept(lengths: list[int], most_rows: int | None, most_tokens: int | None, padding: bool) -> None:
    memory = Memory()
    list(batches(memory, Limit(most_rows, most_tokens, padding)).results(list(enumerate(lengths))))
    for batch in memory.tried:
        assert most_rows is None or len(batch) <= most_rows
        assert most_tokens is None or len(batch) == 1 or padded(batch) <= most_tokens
        assert padding or len({length for _, length in batch}) == 1


@given(lengths, st.integers(0, 49))
def test_a_row_that_does_not_fit_alone_is_named(lengths: list[int], size: int) -> None:
    memory = Memory(size)
    run = batches(memory, Limit()).results(list(enumerate(lengths)))
    if max(lengths, default=0) <= size:
        assert sum(map(len, run)) == len(lengths)
    else:
        with pytest.raises(OutOfMemoryError) as caught:
            list(run)
        assert caught.value.row[1] == max(lengths)


def test_without_limits_all_rows_are_one_batch_longest_first() -> None:
    memory = Memory()
    list(batches(memory, Limit()).results([(0, 3), (1, 9), (2, 5)]))
    assert memory.tried == [[(1, 9), (2, 5), (0, 3)]]


def test_no_rows_need_no_batch() -> None:
    assert list(batches(Memory(), Limit()).results([])) == []


def test_short_rows_share_a_batch_after_long_ones_ran_out_of_memory() -> None:
    memory = Memory(100)
    list(batches(memory, Limit()).results([(n, 60) for n in range(4)] + [(n, 1) for n in range(4, 40)]))
    assert len(memory.tried[-1]) == 36


def test_batches_are_halved_until_they_fit() -> None:
    memory = Memory(10)
    list(batches(memory, Limit()).results([(n, 10) for n in range(16)]))
    assert [len(batch) for batch in memory.tried] == [16, 8, 4, 2, *[1] * 16]


def test_what_is_done_is_not_run_again_when_memory_runs_out_later() -> None:
    memory = Memory()
    run = batches(memory, Limit(rows=4)).results([(n, 10) for n in range(8)])
    first = next(run)
    memory.size = 10
    rest = [row for done in run for row, _ in done]
    assert [row for row, _ in first] + rest == [(n, 10) for n in range(8)]
    assert sum(row in batch for batch in memory.tried for row, _ in first) == 4


def test_other_errors_pass_through() -> None:
    def run(batch: Sequence[Row]) -> list[int]:
        raise RuntimeError("device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side assert"):
        list(Batches(lambda row: row[1], run, Limit()).results([(0, 1), (1, 1)]))


def test_a_result_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(Batches(lambda row: 1, lambda batch: [0], Limit()).results([(0, 1), (1, 1)]))


def test_what_the_failed_batch_held_is_let_go_before_memory_is_freed() -> None:
    class Activations:
        pass

    held: list[weakref.ref[Activations]] = []
    alive_at_free: list[bool] = []

    def run(batch: Sequence[int]) -> list[int]:
        activations = Activations()
        held.append(weakref.ref(activations))
        if len(batch) > 1:
            raise MemoryError
        return list(batch)

    def free() -> None:
        gc.collect()
        alive_at_free.append(held[-1]() is not None)

    list(Batches(lambda row: 1, run, Limit(), free).results([1, 2]))
    assert alive_at_free == [False]


def test_running_out_of_memory_is_recognised_on_any_device() -> None:
    import torch  # here, because the other tests do without

    with pytest.raises(RuntimeError) as on_cpu:
        torch.empty(1 << 58)
    assert is_out_of_memory(on_cpu.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
