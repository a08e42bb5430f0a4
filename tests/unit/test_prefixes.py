"""The tree of shared prefixes: every row finds its own beginning there, and each part is worth its pass."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shardmark.engine.prefixes import Prefix, shared_prefixes

rows_of_tokens = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=25)


def whole(prefix: Prefix | None) -> list[int]:
    return [token for part in reversed(list(prefix.chain())) for token in part.tokens] if prefix else []


@given(rows_of_tokens, st.integers(1, 30))
def test_a_prefix_is_what_its_rows_begin_with_and_saves_enough(rows: list[list[int]], least: int) -> None:
    found = shared_prefixes(rows, least=least)
    assert sorted(n for n, _ in found) == list(range(len(rows)))
    users: Counter[Prefix] = Counter()
    for n, prefix in found:
        assert rows[n][: len(whole(prefix))] == whole(prefix)
        assert len(whole(prefix)) < len(rows[n])
        users.update(prefix.chain() if prefix else ())
    for part, count in users.items():
        assert part.tokens
        assert part.start == (part.parent.end if part.parent else 0)
        assert (count - 1) * len(part.tokens) >= least


@given(rows_of_tokens)
def test_with_no_least_nothing_that_two_rows_share_is_read_twice(rows: list[list[int]]) -> None:
    found = shared_prefixes(rows, least=1)
    read = sum(len(rows[n]) - 1 - len(whole(prefix)) for n, prefix in found)
    parts = {part for _, prefix in found if prefix for part in prefix.chain()}
    tree = {tuple(row[:n]) for row in rows for n in range(1, len(row))}
    assert read + sum(len(part.tokens) for part in parts) == len(tree)


@given(rows_of_tokens)
def test_rows_of_a_prefix_follow_each_other(rows: list[list[int]]) -> None:
    places: dict[Prefix, list[int]] = {}
    for place, (_, prefix) in enumerate(shared_prefixes(rows, least=1)):
        for part in prefix.chain() if prefix else ():
            places.setdefault(part, []).append(place)
    assert all(at == list(range(at[0], at[-1] + 1)) for at in places.values())


def test_examples_questions_and_samples_are_three_levels() -> None:
    shots, first, second = list(range(100)), list(range(200, 250)), list(range(300, 340))
    rows = [shots + first] * 3 + [shots + second] * 4
    found = dict(shared_prefixes(rows, least=10))
    assert [len(part.tokens) for part in found[0].chain()] == [49, 100]
    assert [len(part.tokens) for part in found[6].chain()] == [39, 100]
    assert found[0].parent is found[6].parent


def test_the_heaviest_come_first() -> None:
    rows = [[1, 1], [2] * 5, [3] * 4, [4] * 3]
    assert [n for n, _ in shared_prefixes(rows)] == [1, 2, 3, 0]
    assert [n for n, _ in shared_prefixes(rows, [9, 1, 2, 3])] == [0, 3, 2, 1]


def test_many_rows_that_begin_ever_longer_are_no_trouble() -> None:
    rows = [[1] * n for n in range(1, 1500)]
    assert len(shared_prefixes(rows)) == 1499
