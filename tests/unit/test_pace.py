"""The pace of an endpoint: what is in flight, what a minute holds, and what its answers teach."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects import property_test
from shardmark.engine.endpoints.pace import (
    COOL_SECONDS,
    GATHERING_SECONDS,
    LIMITED,
    MINUTE,
    MOST,
    OK,
    START,
    TROUBLE,
    Pace,
    Purse,
)


def answer(pace: Pace, now: float, count: int = 1, outcome: str = OK, after: float = 0.0, wanted: bool = True) -> None:
    """A number of requests that are sent and answered."""
    for _ in range(count):
        pace.settle(pace.grant(1, now), 1)
        pace.learn(outcome, after, wanted, now)


def test_without_a_429_the_concurrency_doubles_as_far_as_it_is_used() -> None:
    pace = Pace()
    answer(pace, 0, START, wanted=False)
    assert pace.most == START
    answer(pace, 0, 1)
    assert pace.most == 2 * START
    answer(pace, 0, 10 * MOST)
    assert pace.most == MOST


def test_a_429_takes_a_fifth_and_then_time_to_cool_down() -> None:
    pace = Pace(limit=100)
    answer(pace, 0, outcome=LIMITED)
    assert pace.most == 80
    answer(pace, COOL_SECONDS - 1, outcome=LIMITED)
    answer(pace, COOL_SECONDS - 1, 200)
    assert pace.most == 80
    answer(pace, COOL_SECONDS + 1, 1)
    assert pace.most == 84
    answer(pace, COOL_SECONDS + 1, outcome=LIMITED)
    assert pace.most == 67


def test_other_trouble_makes_it_wait_to_grow_and_no_slower() -> None:
    pace = Pace()
    answer(pace, 0, START - 1)
    answer(pace, 0, outcome=TROUBLE)
    answer(pace, 0, START - 1)
    assert pace.most == START
    answer(pace, 0, 1)
    assert pace.most == 2 * START


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        ((5, None, None), GATHERING_SECONDS),
        ((None, 600, None), GATHERING_SECONDS),
        ((None, 2, None), MINUTE / 2),
        ((5, 600, 100), MINUTE),
    ],
)
def test_after_a_death_it_waits_until_what_was_granted_before_concerns_no_limit(limits: Any, seconds: float) -> None:
    pace = Pace(blind_until=1000.0)
    pace.settings(*limits)
    pace.grant(10, 1001.0)  # what a job still holds
    pace.next_request = 0.0
    assert pace.wait(10, 1001.0) == seconds - 1
    assert pace.wait(10, 1000.0 + seconds) == 0


@given(delays=st.lists(st.floats(0, 1), min_size=300, max_size=300))
@property_test
def test_requests_that_arrive_late_are_no_more_a_minute_either(delays: list[float]) -> None:
    pace, now, sent = Pace(requests_per_minute=240), 0.0, []
    for delay in delays:
        now += pace.wait(1, now)
        pace.settle(pace.grant(1, now), 1)
        sent.append(now + delay)
    sent.sort()
    assert all(late - early > 60 for early, late in zip(sent, sent[240:], strict=False))


def test_a_given_concurrency_stays() -> None:
    pace = Pace(concurrency=3)
    answer(pace, 0, 100)
    answer(pace, 0, outcome=LIMITED)
    assert pace.most == 3
    for _ in range(3):
        assert pace.wait(1, 0) == 0
        pace.grant(1, 0)
    assert pace.wait(1, 0) == math.inf


def test_nobody_asks_before_the_time_that_the_endpoint_names() -> None:
    pace = Pace()
    answer(pace, 100, outcome=LIMITED, after=30)
    answer(pace, 101, outcome=LIMITED, after=5)
    assert pace.wait(1, 110) == pytest.approx(20)
    assert pace.wait(1, 130) == 0


def sent(pace: Pace, sizes: list[int], seconds: float) -> list[tuple[float, int]]:
    """When requests of these sizes are sent, each as soon as it may, and answered after some seconds."""
    now, times, flying = 0.0, [], []
    for size in sizes:
        while wait := pace.wait(size, now):
            flying.sort()
            ends = flying[0][0] if flying else math.inf
            now = min(now + wait, max(ends, now))
            while flying and flying[0][0] <= now:
                _, tokens, entry = flying.pop(0)
                pace.settle(entry, tokens)
        times.append((now, size))
        flying.append((now + seconds, size, pace.grant(size, now)))
    return times


@property_test
@given(
    st.floats(0.5, 300), st.integers(10, 1000), st.lists(st.integers(1, 500), min_size=1, max_size=40), st.floats(0, 50)
)
def test_no_minute_has_more_than_it_may(requests: float, tokens: int, sizes: list[int], seconds: float) -> None:
    pace = Pace(concurrency=1000, requests_per_minute=requests, tokens_per_minute=tokens)
    times = sent(pace, sizes, seconds)
    for start, _ in times:
        minute = [size for when, size in times if start <= when < start + 59.99]
        assert len(minute) <= max(1, math.ceil(requests))
        assert sum(minute) <= tokens or len(minute) == 1


def test_tokens_that_were_not_used_are_given_back() -> None:
    pace = Pace(tokens_per_minute=100)
    entry = pace.grant(90, 0)
    assert pace.wait(50, 1) == pytest.approx(MINUTE - 1)
    pace.settle(entry, 10)
    assert pace.wait(50, 1) == 0


def test_a_purse_holds_the_worst_case_of_all_that_is_in_flight() -> None:
    purse = Purse(limit=100)
    assert purse.take(60)
    assert purse.take(50) is None
    purse.settle(60, 20)
    assert purse.take(50)
    purse.settle(50, 50)
    assert purse.take(31) is False
    assert purse.take(1) is False
    assert purse.spent == 70


def test_a_request_that_costs_more_than_its_worst_case_makes_all_others_count_more() -> None:
    purse = Purse(limit=100)
    assert purse.take(10)
    assert purse.take(10)
    purse.settle(10, 30)
    assert purse.take(10)  # 30 spent, 30 for each of two
    assert purse.take(10) is None
    purse.settle(10, 10)
    assert purse.take(10)
    assert (purse.spent, purse.most(purse.reserved, purse.in_flight)) == (40, 60)
    purse = Purse(limit=100)
    assert purse.take(30)
    purse.settle(30, 40)
    assert [purse.take(1) for _ in range(6)] == [True] * 5 + [None]  # 11 each: a prompt of the endpoint's own
