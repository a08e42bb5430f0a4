"""Requests in shards: what may change a shard, and what may not."""

import hashlib
import json
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from projects import property_test
from shardmark.plan.shards import Shard, bucket_bits, make_shards
from shardmark.tasks import Request, Sample, request_id


def sample(name: str, text: str) -> Sample:
    request: Request = {"kind": "generate", "prompt": text, "max_new_tokens": 8, "stop": []}
    return Sample(name, {"text": text}, request, request_id(request), ["x"])


def samples(texts: dict[str, str]) -> list[Sample]:
    return [sample(name, text) for name, text in texts.items()]


def names(shards: list[Shard]) -> set[str]:
    return {shard.name for shard in shards}


def changed(before: list[Shard], after: list[Shard]) -> tuple[int, int]:
    """How many shards went, and how many came."""
    return len(names(before) - names(after)), len(names(after) - names(before))


TEXT = st.text(st.characters(exclude_categories=()), max_size=4)  # lone surrogates as well
ROWS = st.dictionaries(TEXT, TEXT, min_size=1, max_size=40).map(samples)
DISTINCT = st.lists(TEXT, min_size=1, max_size=40, unique=True).map(
    lambda texts: samples({f"id{n}": text for n, text in enumerate(texts)})
)
SIZES = st.integers(1, 20)


@property_test
@given(ROWS, SIZES, st.booleans())
def test_each_different_request_is_in_exactly_one_shard(rows: list[Sample], size: int, by_id: bool) -> None:
    placed = [key for shard in make_shards(rows, size, by_id) for key in shard.requests]
    assert sorted(placed) == sorted({row.request_id for row in rows})


@property_test
@given(ROWS, SIZES, st.booleans())
def test_a_request_stands_under_its_id_in_the_order_of_ids(rows: list[Sample], size: int, by_id: bool) -> None:
    for shard in make_shards(rows, size, by_id):
        assert list(shard.requests) == sorted(shard.requests)
        assert all(request_id(request) == key for key, request in shard.requests.items())


@property_test
@given(ROWS, SIZES, st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[Sample], size: int, by_id: bool, rng: random.Random) -> None:
    shuffled = rng.sample(rows, len(rows))
    assert make_shards(shuffled, size, by_id) == make_shards(rows, size, by_id)


@property_test
@given(DISTINCT, DISTINCT, SIZES)
def test_a_name_says_which_requests_are_in_the_shard(a: list[Sample], b: list[Sample], size: int) -> None:
    shards = make_shards(a, size, False) + make_shards(b, size, True)
    contents = {(shard.name, tuple(shard.requests)) for shard in shards}
    assert len({name for name, _ in contents}) == len({requests for _, requests in contents}) == len(contents)


@property_test
@given(DISTINCT, SIZES, st.data())
def test_an_edited_row_with_an_id_changes_only_its_shard(rows: list[Sample], size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(rows) - 1))
    edited = sample(rows[index].id, data.draw(st.text(min_size=5, max_size=9)))  # longer than any other
    before, after = make_shards(rows, size, True), make_shards([*rows[:index], edited, *rows[index + 1 :]], size, True)
    assert changed(before, after) == (1, 1)


@property_test
@given(DISTINCT, SIZES, st.data(), st.booleans())
def test_an_edited_row_leaves_all_but_two_shards_at_most(
    rows: list[Sample], size: int, data: st.DataObject, by_id: bool
) -> None:
    index = data.draw(st.integers(0, len(rows) - 1))
    edited = sample(rows[index].id, data.draw(st.text(min_size=5, max_size=9)))
    before, after = (
        make_shards(rows, size, by_id),
        make_shards([*rows[:index], edited, *rows[index + 1 :]], size, by_id),
    )
    gone, new = changed(before, after)
    assert gone <= 2
    assert new <= 2


@property_test
@given(DISTINCT, SIZES, st.text(min_size=5, max_size=9), st.integers(0, 40), st.booleans())
def test_an_inserted_or_removed_row_changes_one_shard_at_most(
    rows: list[Sample], size: int, text: str, index: int, by_id: bool
) -> None:
    assume(bucket_bits(len(rows), size) == bucket_bits(len(rows) + 1, size))
    more = [*rows[:index], sample("new", text), *rows[index:]]
    gone, new = changed(make_shards(rows, size, by_id), make_shards(more, size, by_id))
    assert gone <= 1  # read backwards, it is a removal
    assert new <= 1


@property_test
@given(ROWS, st.integers(1, 10), st.booleans())
def test_a_smaller_size_splits_shards_and_mixes_none(rows: list[Sample], size: int, by_id: bool) -> None:
    large, small = make_shards(rows, 2 * size, by_id), make_shards(rows, size, by_id)
    for part in small:
        assert any(part.requests.keys() <= whole.requests.keys() for whole in large)
    assert len(large) <= len(small) <= 2 * len(large)


@pytest.mark.parametrize(
    ("count", "size", "bits"), [(1, 4, 0), (4, 4, 0), (5, 4, 1), (8, 4, 1), (9, 4, 2), (17, 4, 3), (3, 1, 2)]
)
def test_the_number_of_buckets_is_a_power_of_two_that_suffices(count: int, size: int, bits: int) -> None:
    assert bucket_bits(count, size) == bits


def test_shards_are_of_about_the_size_that_is_asked_for() -> None:
    rows = samples({f"id{n}": f"question {n}" for n in range(2000)})
    for by_id in (True, False):
        sizes = [len(shard.requests) for shard in make_shards(rows, 250, by_id)]
        assert len(sizes) == 8
        assert max(sizes) < 350


def test_a_question_that_two_rows_share_is_asked_once() -> None:
    rows = samples({"a": "same", "b": "other", "c": "same"})
    (shard,) = make_shards(rows, 10, True)
    assert len(shard.requests) == 2
    assert sorted(request["prompt"] for request in shard.requests.values()) == ["other", "same"]


def test_a_name_is_the_digest_of_the_ids_in_their_order() -> None:
    rows = samples({"a": "x", "b": "y"})
    ids = json.dumps(sorted(row.request_id for row in rows), separators=(",", ":"))
    (shard,) = make_shards(rows, 10, True)
    assert shard.name == hashlib.sha256(ids.encode()).hexdigest()[:16]
