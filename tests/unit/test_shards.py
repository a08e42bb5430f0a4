"""Requests in shards: what may change a shard, and what may not."""

import hashlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asked import choice, generate
from projects import property_test
from shardmark.plan.shards import GROUP, PREFIX, Placed, Shard, bits_for, keys, prefix_key, split
from shardmark.tasks import request_id


def placed(texts: list[str], head: int = 0) -> list[Placed]:
    """The requests of these prompts, each once, whose first `head` characters all share."""
    requests = {request_id(request): request for request in map(generate, texts)}
    places = keys(list(requests), [prefix_key(request, head) for request in requests.values()])
    return [Placed(name, key, 1, 8, 0, 0) for name, key in zip(requests, places, strict=True)]


def names(shards: list[Shard]) -> set[str]:
    return {shard.name for shard in shards}


def changed(before: list[Shard], after: list[Shard]) -> tuple[int, int]:
    """How many shards went, and how many came."""
    return len(names(before) - names(after)), len(names(after) - names(before))


def shards_of(texts: list[str], bits: int, wanted: list[str], head: int = 0) -> int:
    """In how many shards the wanted texts are."""
    ids = {request_id(generate(text)) for text in wanted}
    return sum(any(request.id in ids for request in shard.requests) for shard in split(placed(texts, head), bits))


TEXT = st.text(st.characters(exclude_categories=()), max_size=4)  # lone surrogates as well
TEXTS = st.lists(TEXT, min_size=1, max_size=40)
DISTINCT = st.lists(TEXT, min_size=1, max_size=40, unique=True)
NEW = st.text(min_size=5, max_size=9)  # longer than any other
BITS = st.integers(0, 6)


@property_test
@given(TEXTS, BITS)
def test_each_different_request_is_in_exactly_one_shard(texts: list[str], bits: int) -> None:
    found = [request.id for shard in split(placed(texts), bits) for request in shard.requests]
    assert sorted(found) == sorted({request_id(generate(text)) for text in texts})


@property_test
@given(TEXTS, BITS)
def test_requests_stand_in_the_order_of_ids_and_shards_in_that_of_buckets(texts: list[str], bits: int) -> None:
    shards = split(placed(texts), bits)
    assert [shard.bucket for shard in shards] == sorted({shard.bucket for shard in shards})
    assert all(0 <= shard.bucket < 1 << bits for shard in shards)
    for ids in ([request.id for request in shard.requests] for shard in shards):
        assert ids == sorted(ids)


@property_test
@given(TEXTS, BITS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(texts: list[str], bits: int, rng: random.Random) -> None:
    assert split(placed(rng.sample(texts, len(texts))), bits) == split(placed(texts), bits)


@property_test
@given(DISTINCT, DISTINCT, BITS)
def test_a_name_says_which_requests_are_in_the_shard(a: list[str], b: list[str], bits: int) -> None:
    shards = split(placed(a), bits) + split(placed(b), bits)
    contents = {(shard.name, tuple(request.id for request in shard.requests)) for shard in shards}
    assert len({name for name, _ in contents}) == len({ids for _, ids in contents}) == len(contents)


@property_test
@given(DISTINCT, BITS, NEW, st.data())
def test_an_edited_row_changes_two_shards_at_most(texts: list[str], bits: int, new: str, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(texts) - 1))
    gone, came = changed(split(placed(texts), bits), split(placed([*texts[:index], new, *texts[index + 1 :]]), bits))
    assert 1 <= gone <= 2
    assert 1 <= came <= 2


@property_test
@given(DISTINCT, BITS, NEW, st.integers(0, 40))
def test_an_inserted_or_removed_row_changes_one_shard_at_most(
    texts: list[str], bits: int, new: str, index: int
) -> None:
    gone, came = changed(split(placed(texts), bits), split(placed([*texts[:index], new, *texts[index:]]), bits))
    assert gone <= 1  # read backwards, it is a removal
    assert came == 1


@property_test
@given(TEXTS, BITS)
def test_one_more_bit_splits_shards_and_mixes_none(texts: list[str], bits: int) -> None:
    large, small = split(placed(texts), bits), split(placed(texts), bits + 1)
    for part in small:
        assert any(set(part.requests) <= set(whole.requests) for whole in large)
    assert len(large) <= len(small) <= 2 * len(large)


@pytest.mark.parametrize(
    ("parts", "bits"), [(0, 0), (0.3, 0), (1, 0), (1.01, 1), (2, 1), (2.5, 2), (4, 2), (17, 5), (1e300, 32)]
)
def test_the_number_of_buckets_is_a_power_of_two_that_suffices(parts: float, bits: int) -> None:
    assert bits_for(parts) == bits


def test_shards_are_of_about_the_size_that_is_asked_for() -> None:
    sizes = [len(shard.requests) for shard in split(placed([f"question {n}" for n in range(2000)]), bits_for(8))]
    assert len(sizes) == 8
    assert max(sizes) < 350


def test_a_name_is_the_digest_of_the_ids_in_their_order() -> None:
    ids = json.dumps(sorted(request_id(generate(text)) for text in "xy"), separators=(",", ":"))
    (shard,) = split(placed(["x", "y"]), 0)
    assert shard.name == hashlib.sha256(ids.encode()).hexdigest()[:16]


# Requests that begin alike


def passage(letter: str, count: int, head: str = "") -> list[str]:
    return [f"{head}{letter * PREFIX} question {n}" for n in range(count)]


@property_test
@given(BITS | st.integers(7, 32), st.integers(1, GROUP), TEXTS)
def test_requests_with_a_long_prefix_in_common_are_in_one_shard(bits: int, count: int, others: list[str]) -> None:
    same = passage("a", count)
    assert shards_of([*same, *others], bits, same) == 1


def test_a_prefix_that_more_than_a_group_share_is_split() -> None:
    assert shards_of(passage("a", GROUP), 5, passage("a", GROUP)) == 1
    assert shards_of(passage("a", GROUP + 1), 5, passage("a", GROUP + 1)) > 16


def test_a_short_prefix_keeps_nothing_together() -> None:
    same = [f"{'a' * (PREFIX - 5)}{n:04}" for n in range(GROUP)]  # one character too short
    assert shards_of(same, 5, same) > 16


def test_the_head_of_all_prompts_does_not_count() -> None:
    head = "h" * 2 * PREFIX
    texts = passage("a", 20, head) + passage("b", 20, head)
    short = [f"{head}question {n}" for n in range(40)]
    assert shards_of(texts + short, 32, texts[:20], len(head)) == 1
    assert shards_of(texts + short, 32, texts, len(head)) == 2
    assert shards_of(texts + short, 32, short, len(head)) == 40


def test_the_context_of_choices_is_their_prefix_and_else_the_whole_text() -> None:
    context, whole = (choice(pair) for pair in (("a" * PREFIX, "x"), ("", "a" * PREFIX)))
    assert prefix_key(context, 0) == prefix_key(whole, 0) == prefix_key(generate("a" * PREFIX), 0) is not None
    assert prefix_key(choice(("a", "x" * PREFIX)), 0) is None
