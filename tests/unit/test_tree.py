"""The token tree holds each prefix once, and its chunks take every token through a model with all that it must see."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmark.engine.tokens import ScoredRow
from shardmark.engine.tree import Budget, Chunk, TokenTree


@st.composite
def scored_row(draw: Callable[..., Any]) -> ScoredRow:
    """Few different tokens, so that rows share much."""
    inputs = draw(st.lists(st.integers(0, 2), min_size=1, max_size=12))
    scored = draw(st.integers(1, len(inputs)))
    return ScoredRow(inputs, [*inputs[len(inputs) - scored + 1 :], draw(st.integers(0, 2))], 0)


rows_of_a_shard = st.lists(scored_row(), min_size=1, max_size=30)
budgets = st.builds(Budget, st.integers(1, 40), st.integers(1, 20), st.none() | st.integers(1, 5))


def ancestors(tree: TokenTree, token: int) -> list[int]:
    """By the tree's definition: the tokens whose interval holds it, itself among them."""
    return [n for n in range(token + 1) if n <= token < tree.end[n]]


def spell(tree: TokenTree, tokens: list[int]) -> list[int]:
    return [int(tree.tokens[n]) for n in tokens]


def chunks(tree: TokenTree, budget: Budget) -> list[tuple[Chunk, np.ndarray]]:
    """Each chunk and the path before it."""
    found, start, path = [], 0, np.zeros(0, dtype=np.int64)
    while start < len(tree):
        chunk = tree.chunk(start, path, budget)
        found.append((chunk, path))
        start, path = chunk.stop, tree.path_after(chunk, path)
    return found


def prefixes(rows: list[ScoredRow]) -> set[tuple[int, ...]]:
    return {tuple(row.inputs[:n]) for row in rows for n in range(1, len(row.inputs) + 1)}


@given(rows_of_a_shard)
def test_each_rows_path_spells_its_inputs(rows: list[ScoredRow]) -> None:
    tree = TokenTree(rows)
    assert sorted(tree.order) == list(range(len(rows)))
    for number, last in zip(tree.order, tree.last, strict=True):
        path = ancestors(tree, int(last))
        assert spell(tree, path) == rows[number].inputs
        assert [tree.depth[n] for n in path] == list(range(len(path)))


@given(rows_of_a_shard)
def test_each_prefix_is_there_once(rows: list[ScoredRow]) -> None:
    tree = TokenTree(rows)
    assert len(tree) == len(prefixes(rows))
    assert {tuple(spell(tree, ancestors(tree, n))) for n in range(len(tree))} == prefixes(rows)


@given(rows_of_a_shard)
def test_each_rows_values_are_those_of_its_scored_tokens_and_none_is_there_twice(rows: list[ScoredRow]) -> None:
    tree = TokenTree(rows)
    wanted = set()
    for number, slots in zip(tree.order, tree.row_slots, strict=True):
        row = rows[number]
        values = [(*spell(tree, ancestors(tree, int(tree.slot_place[s]))), int(tree.slot_target[s])) for s in slots]
        begin = len(row.inputs) - len(row.scored) + 1
        assert values == [(*row.inputs[: begin + n], token) for n, token in enumerate(row.scored)]
        wanted |= set(values)
    assert len(tree.slot_place) == len(wanted)


@given(rows_of_a_shard, budgets)
def test_chunks_take_every_token_once_and_keep_the_budget(rows: list[ScoredRow], budget: Budget) -> None:
    tree = TokenTree(rows)
    found = [chunk for chunk, _ in chunks(tree, budget)]
    assert [n for chunk in found for n in range(chunk.start, chunk.stop)] == list(range(len(tree)))
    assert [n for chunk in found for n in range(chunk.slots.start, chunk.slots.stop)] == list(
        range(len(tree.slot_place))
    )
    for chunk in found:
        assert len(chunk.tokens) <= budget.tokens
        assert len(chunk.outputs) <= budget.outputs
        new_branches = sum(chunk.start < branch < chunk.stop for branch in tree.branches)
        assert budget.rows is None or new_branches + 1 <= budget.rows


@given(rows_of_a_shard, budgets)
def test_chunks_grow_as_far_as_the_budget_lets_them(rows: list[ScoredRow], budget: Budget) -> None:
    tree = TokenTree(rows)
    for chunk, path in chunks(tree, budget):
        if chunk.stop < len(tree):
            larger = tree.chunk(chunk.start, path, Budget(chunk.stop - chunk.start + 1, 1000))
            branches = sum(larger.start < branch < larger.stop for branch in tree.branches) + 1
            assert (
                len(larger.tokens) > budget.tokens
                or len(larger.outputs) > budget.outputs
                or branches > (budget.rows or 1000)
            )


@given(rows_of_a_shard, budgets)
def test_a_token_sees_its_ancestors_only_at_their_depths(rows: list[ScoredRow], budget: Budget) -> None:
    tree = TokenTree(rows)
    for chunk, path in chunks(tree, budget):
        columns = [*path, *range(chunk.start, chunk.stop)]
        assert chunk.past == len(path)
        assert chunk.depth.tolist() == [tree.depth[n] for n in columns]
        for new in range(chunk.stop - chunk.start):
            seen = (chunk.seen_from <= new) & (new < chunk.seen_until)
            assert [n for n, sees in zip(columns, seen, strict=True) if sees] == ancestors(tree, chunk.start + new)


@given(rows_of_a_shard, budgets)
def test_no_more_is_kept_between_chunks_than_one_path(rows: list[ScoredRow], budget: Budget) -> None:
    tree = TokenTree(rows)
    for chunk, path in chunks(tree, budget):
        assert [*path, chunk.start] == ancestors(tree, chunk.start)
    assert not len(chunk.keep)


@given(rows_of_a_shard, budgets)
def test_each_value_is_read_at_the_token_it_follows(rows: list[ScoredRow], budget: Budget) -> None:
    tree = TokenTree(rows)
    for chunk, _ in chunks(tree, budget):
        places = chunk.start + chunk.outputs[chunk.slot_outputs]
        assert places.tolist() == tree.slot_place[chunk.slots].tolist()
        assert chunk.slot_targets.tolist() == tree.slot_target[chunk.slots].tolist()


def test_one_letter_choices_are_one_row_of_tokens_and_one_output() -> None:
    tree = TokenTree([ScoredRow([5, 6, 7], [letter], 0) for letter in (1, 2, 3, 4)])
    (chunk,) = (chunk for chunk, _ in chunks(tree, Budget(100, 100)))
    assert chunk.tokens.tolist() == [5, 6, 7]
    assert chunk.outputs.tolist() == [2]
    assert chunk.slot_targets.tolist() == [1, 2, 3, 4]


def test_a_prompt_that_is_scored_with_each_choice_is_scored_once() -> None:
    prompt = list(range(50))
    rows = [ScoredRow([*prompt, choice], [*prompt[1:], choice, 0], 0) for choice in (60, 61, 62)]
    tree = TokenTree(rows)
    assert len(tree) == 53
    assert len(tree.slot_place) == 49 + 3 * 2


def test_a_row_that_ends_inside_another_one_is_done_before_it() -> None:
    tree = TokenTree([ScoredRow([1, 2, 3, 4], [5], 0), ScoredRow([1, 2], [5], 0)])
    assert tree.order == [1, 0]
    assert tree.last.tolist() == [1, 3]


@pytest.mark.parametrize(("tokens", "left"), [(1, 1), (2, 1), (7, 3), (512, 256)])
def test_a_budget_is_halved_but_never_to_nothing(tokens: int, left: int) -> None:
    budget = Budget(1000, 1000)
    budget.halve(tokens)
    assert budget.tokens == left
