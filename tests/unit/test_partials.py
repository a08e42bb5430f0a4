"""Partial files: every whole line in them is believed, and nothing else."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from answered import scored, wrote
from projects import property_test
from shardmark.files import digest, json_line
from shardmark.records.prediction import Generated, Output, Prediction, Sampled, Scored
from shardmark.store.partials import CHECK, append_partial, partial_file, partial_files, read_partial

TEXT = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates as well
COUNTS = st.integers(0, 10**6)
LOGPROBS = st.lists(st.floats(allow_nan=False), max_size=5)
COUNTED, FLAGS = st.lists(COUNTS, max_size=3), st.lists(st.booleans(), max_size=3)
SCORED = st.builds(
    Scored, id=TEXT, logprobs=LOGPROBS, tokens=COUNTED, greedy=FLAGS, cut=COUNTS, alone=COUNTS, opened=st.booleans()
)
MARKS = st.lists(st.tuples(COUNTS, TEXT), max_size=2)
OUTPUT = {"text": TEXT, "tokens": COUNTS, "end": TEXT, "cut": COUNTS, "opened": TEXT, "thought": COUNTS, "marks": MARKS}
SAMPLED = st.builds(Sampled, id=TEXT, samples=st.lists(st.builds(Output, **OUTPUT), max_size=3), opened=TEXT)
MANY = st.lists(st.builds(Generated, id=TEXT, **OUTPUT) | SCORED | SAMPLED, min_size=1, max_size=5)
LINES: list[Prediction] = [
    wrote("a" * 64, "a\ud800é", sent=(("<s>\ud800", (0, "strip")),)),
    scored("b" * 64, -1e-07, 0.1),
    Sampled(id="c" * 64, samples=[Output(text="c\ud800", tokens=1, end="eos", cut=0)]),
]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "predictions" / "tiny@0" / "demo" / "shard.jsonl"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("partials") / "shard.jsonl"


def kept(out: Path, *batches: list[Prediction]) -> Path:
    """The partial file of this process, with these answers and no others."""
    partial_file(out).unlink(missing_ok=True)
    for batch in batches:
        append_partial(out, batch)
    return partial_file(out)


def lines_of(path: Path) -> list[bytes]:
    """The lines that hold something."""
    return [line for line in path.read_bytes().splitlines(keepends=True) if line != b"\n"]


@property_test
@given(batches=st.lists(MANY, min_size=1, max_size=3))
def test_any_prediction_comes_back_in_the_order_of_arrival(scratch: Path, batches: list[list[Prediction]]) -> None:
    back = read_partial(kept(scratch, *batches))
    assert back == [prediction for batch in batches for prediction in batch]
    assert list(map(repr, back)) == [repr(prediction) for batch in batches for prediction in batch]  # True is not 1


@property_test
@given(values=LOGPROBS)
def test_numbers_come_back_exactly(scratch: Path, values: list[float]) -> None:
    (back,) = read_partial(kept(scratch, [scored("a", *values)]))
    assert isinstance(back, Scored)
    assert list(map(repr, back.logprobs)) == list(map(repr, values))


def test_the_id_stands_first_so_that_it_is_read_without_parsing(out: Path) -> None:
    assert all(line.startswith(b'{"id": "') for line in lines_of(kept(out, LINES)))


@property_test
@given(predictions=MANY, length=st.integers(0, 10_000))
def test_a_file_that_is_cut_off_holds_what_stands_before(
    scratch: Path, predictions: list[Prediction], length: int
) -> None:
    whole = kept(scratch, predictions).read_bytes()
    length %= len(whole)
    partial_file(scratch).write_bytes(whole[:length])
    rest = whole[:length].count(b"\n") - 1  # one newline comes before the first line
    without_newline = whole[length : length + 1] == b"\n" and length > 0
    assert read_partial(partial_file(scratch)) == predictions[: max(rest, 0) + without_newline]


@property_test
@given(predictions=MANY, place=st.integers(0, 10_000), bit=st.integers(0, 7), data=st.data())
def test_a_line_with_a_flipped_bit_is_left_out_and_the_others_stay(
    scratch: Path, predictions: list[Prediction], place: int, bit: int, data: st.DataObject
) -> None:
    lines = lines_of(kept(scratch, predictions))
    which = data.draw(st.integers(0, len(lines) - 1))
    line = lines[which]
    place %= len(line) - 1  # not the newline
    lines[which] = line[:place] + bytes([line[place] ^ 1 << bit]) + line[place + 1 :]
    partial_file(scratch).write_bytes(b"".join(lines))
    back = read_partial(partial_file(scratch))
    others = predictions[:which] + predictions[which + 1 :]
    assert back in (others, predictions)  # as "\u00e9" and "\u00E9" are the same text


@pytest.mark.parametrize("which", range(3))
def test_a_flipped_newline_costs_the_lines_it_joins_and_no_other(out: Path, which: int) -> None:
    lines = lines_of(kept(out, LINES))
    lines[which] = lines[which][:-1] + b"\x0b"
    partial_file(out).write_bytes(b"".join(lines))
    assert read_partial(partial_file(out)) == LINES[:which] + LINES[which + 2 :]


FOREIGN = [
    b"\n",
    b"null\n",
    b"5\n",
    b"[]\n",
    b"[1]\n",
    b'"text"\n',
    b"{}\n",
    b'{"id": "a", "text": "without its digest"}\n',
    b'{"id": "a", "check": null}\n',
    b'{"id": "a", "check": "0000000000000000"}\n',
    b'{"complete": {"count": 1}}\n',
    b"\x00" * 100 + b"\n",
    b"\xff\xfe\n",
    b"{" * 100 + b"\n",
    b"[" * 100_000 + b"\n",
    b"9" * 10_000 + b"\n",
]


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda line: repr(line[:30]))
@pytest.mark.parametrize("which", [0, 1, 3])
def test_a_foreign_line_is_left_out_and_the_others_stay(out: Path, foreign: bytes, which: int) -> None:
    lines = lines_of(kept(out, LINES))
    partial_file(out).write_bytes(b"".join([*lines[:which], foreign, *lines[which:]]))
    assert read_partial(partial_file(out)) == LINES


def test_a_line_with_another_answer_than_its_digest_says_is_left_out(out: Path) -> None:
    first, *others = map(json.loads, lines_of(kept(out, LINES)))
    changed = [first | {"text": "changed"}, *others]
    partial_file(out).write_text("".join(map(json_line, changed)))
    assert read_partial(partial_file(out)) == LINES[1:]


def test_a_line_that_is_appended_after_half_a_line_is_not_lost(out: Path) -> None:
    whole = kept(out, LINES[:1]).read_bytes()
    for length in range(len(whole) + 1):
        partial_file(out).write_bytes(whole[:length])
        append_partial(out, LINES[1:])
        assert read_partial(partial_file(out))[-2:] == LINES[1:]


@pytest.mark.parametrize("value", [{"id": "a"}, {"id": "a", "text": "no more"}, {"id": 5, "samples": []}, [1], {}])
def test_a_line_that_is_whole_and_no_prediction_is_left_out(out: Path, value: Any) -> None:
    lines = lines_of(kept(out, LINES))
    line = value | {CHECK: digest(value)} if isinstance(value, dict) else value
    partial_file(out).write_bytes(b"".join([lines[0], json_line(line).encode(), *lines[1:]]))
    assert read_partial(partial_file(out)) == LINES


def test_each_process_has_a_file_of_its_own_and_all_are_found(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_partial(out, LINES[:1])
    own = partial_file(out)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    append_partial(out, LINES[1:2])
    monkeypatch.setattr(socket, "gethostname", lambda: "other.cluster.example")
    append_partial(out, LINES[2:])
    assert partial_file(out).name == "shard.other.cluster.example-1.partial"
    found = partial_files(out)
    assert (len(found), own in found) == (3, True)
    assert sorted((line for path in found for line in read_partial(path)), key=lambda line: line.id) == LINES


def test_files_of_other_shards_and_whole_files_are_no_partial_files_of_a_shard(out: Path) -> None:
    for name in ("shard2.jsonl", "shar.jsonl", "other.jsonl"):
        append_partial(out.with_name(name), LINES)
    out.write_text("")
    assert partial_files(out) == []
    append_partial(out, LINES)
    assert partial_files(out) == [partial_file(out)]


def test_a_file_that_is_gone_holds_nothing(out: Path) -> None:
    assert partial_files(out) == []
    assert read_partial(partial_file(out)) == []
