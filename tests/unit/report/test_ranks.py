"""Ranks are ranges where differences may be chance."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shardmark.report.ranks import RankRange, rank_ranges


def test_models_that_cannot_be_told_apart_have_ranks_in_common() -> None:
    p = np.array([[1, 0.3, 0.001], [0.3, 1, 0.2], [0.001, 0.2, 1]])
    ranges = rank_ranges([0.9, 0.8, 0.7], p)
    assert ranges == [RankRange(1, 2), RankRange(1, 3), RankRange(2, 3)]
    assert [str(each) for each in ranges] == ["1–2", "1–3", "2–3"]


def test_no_models_have_no_ranks() -> None:
    assert rank_ranges([], np.ones((0, 0))) == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 2**30))
def test_a_range_holds_the_place_by_value(values: list[int], seed: int) -> None:
    p = np.random.default_rng(seed).random((len(values),) * 2) / 5
    p = np.minimum(p, p.T)
    ordered = sorted(values, reverse=True)
    for value, (first, last) in zip(values, rank_ranges(values, p), strict=True):
        assert first <= ordered.index(value) + 1 <= last
