"""Request files: what was spooled comes back whole, once, and is found by its id."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asked import choice, generate
from projects import files_of, property_test
from shardmark.files import json_line, jsonl, read_jsonl
from shardmark.plan.cost import tokens_of, work
from shardmark.plan.shards import GROUP, HASH_BITS, PREFIX, request_key, split
from shardmark.plan.spool import Spool
from shardmark.records.base import to_json
from shardmark.records.request import Request
from shardmark.store.requests import ids_in
from shardmark.tasks import request_id

TEXT = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates as well
GENERATE = st.builds(generate, TEXT, st.integers(1, 9))
CHOICE = st.builds(lambda pairs: choice(*pairs), st.lists(st.tuples(TEXT, TEXT), min_size=1))
REQUESTS = st.lists(GENERATE | CHOICE, min_size=1, max_size=12)
IDS = [letter * 64 for letter in "abc"]


def spooled(folder: Path, requests: list[Request], head: int = 0) -> Spool:
    spool = Spool(folder)
    for request in requests:
        spool.add(request_id(request), request, head)
    return spool


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@property_test
@given(requests=REQUESTS, bits=st.integers(0, 3))
def test_each_request_comes_back_once_with_its_id(scratch: Path, requests: list[Request], bits: int) -> None:
    spool = spooled(scratch, [*requests, *requests])
    shards = split(spool.placed(), bits)
    spool.write(scratch / "requests", shards)
    spool.close()
    back: dict[str, Any] = {}
    for shard in shards:
        path = scratch / "requests" / f"{shard.name}.jsonl"
        lines = list(read_jsonl(path))
        assert ids_in(path) == [line["id"] for line in lines] == [request.id for request in shard.requests]
        assert path.read_text("ascii") == jsonl(lines)
        back |= {line.pop("id"): line for line in lines}
    assert back == {request_id(request): json.loads(json_line(to_json(request))) for request in requests}
    assert sum(len(shard.requests) for shard in shards) == len(back)


@property_test
@given(requests=REQUESTS)
def test_each_request_is_placed_with_its_tokens(scratch: Path, requests: list[Request]) -> None:
    spool = spooled(scratch, requests)
    tokens = {request_id(request): work([request]) for request in requests}
    assert {p.id: tokens_of(p.read, [p.written]) for p in spool.placed()} == tokens
    assert all(p.key == request_key(p.id) for p in spool.placed())  # no text is long
    spool.close()


def test_a_long_prefix_after_the_common_head_is_the_place_of_a_request(tmp_path: Path) -> None:
    head = "h" * 2 * PREFIX
    texts = [f"{head}{letter * PREFIX} question {n}" for letter in "ab" for n in range(GROUP)]
    spool = spooled(tmp_path, list(map(generate, texts)), len(head))
    assert len({place.key >> (HASH_BITS - 16) for place in spool.placed()}) == 2
    spool.close()


def test_requests_can_be_added_after_others_were_written(tmp_path: Path) -> None:
    spool = spooled(tmp_path, [generate("a"), generate("b")])
    spool.write(tmp_path / "one", split(spool.placed(), 0))
    spool.add(request_id(generate("c")), generate("c"), 0)
    shards = split(spool.placed(), 0)
    spool.write(tmp_path / "two", shards)
    lines = read_jsonl(tmp_path / "two" / f"{shards[0].name}.jsonl")
    assert sorted(line["prompt"] for line in lines) == ["a", "b", "c"]
    spool.close()


def test_a_request_file_that_is_there_is_left_alone_and_a_damaged_one_is_mended(tmp_path: Path) -> None:
    spool = spooled(tmp_path, list(map(generate, "abcdefgh")))
    shards, folder = split(spool.placed(), 1), tmp_path / "requests"
    spool.write(folder, shards)
    before = files_of(folder)
    spool.write(folder, shards)
    assert files_of(folder) == before
    damaged = folder / f"{shards[0].name}.jsonl"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    spool.write(folder, shards)
    assert {name: content for name, (_, content) in files_of(folder).items()} == {
        name: content for name, (_, content) in before.items()
    }
    spool.close()


def test_nothing_is_left_on_disk(tmp_path: Path) -> None:
    spool = spooled(tmp_path / "tasks", [generate("x" * 100_000), generate("y")])
    spool.placed()
    assert os.listdir(tmp_path / "tasks") == []  # also if the process dies now
    spool.close()
    assert os.listdir(tmp_path / "tasks") == []


# Ids


def test_ids_are_read_without_parsing(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    lines = [{"id": key, "prompt": f'\ud800 {{"id": "x"}} \n\u2028 {key}'} for key in IDS]
    path.write_text("".join(map(json_line, lines)), "ascii")
    assert ids_in(path) == IDS
    path.write_bytes(b"".join(b'{"id": "' + key.encode() + b'", no JSON \xff\n' for key in IDS))
    assert ids_in(path) == IDS


def test_a_line_without_an_id_has_none(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    lines = [json_line({"id": key, "text": "x"}) for key in IDS]
    path.write_text("\n".join(lines) + "\n" + json_line({"complete": {"id": "x", "count": 3}}))
    assert ids_in(path) == IDS
    path.write_text("")
    assert ids_in(path) == []


def test_a_last_line_that_is_cut_off_gives_no_id_that_any_request_has(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    whole = "".join(json_line({"id": key, "prompt": "x"}) for key in IDS).encode()
    start = len(whole) // 3 * 2
    for length in range(start, start + 72):
        path.write_bytes(whole[:length])
        found = ids_in(path)
        assert found[:2] == IDS[:2]
        assert IDS[2] not in found
        assert len(found) == 2 or length >= start + 8


def test_a_file_that_is_gone_has_no_ids(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ids_in(tmp_path / "gone.jsonl")
