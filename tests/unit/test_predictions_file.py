"""A prediction file is whole, or it is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from answered import made, scored, wrote
from projects import problems, property_test
from shardmark.files import write_whole
from shardmark.records.base import to_json
from shardmark.records.trailer import Work
from shardmark.store.predictions import (
    TAIL_BYTES,
    _trailer,
    check_predictions,
    read_predictions,
    read_trailer,
    write_predictions,
)

TEXT = st.text(st.characters(exclude_categories=()), max_size=30)  # lone surrogates as well
LINE_ENDS = ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x00", "\ufeff"]
FACTS = made(seconds=1.5, inferred=2, hardware={"cpu": "x86", "gpus": []})
PREDICTIONS = [wrote("b", "two\nlines", tokens=3, end="stop"), scored("a", -0.5, -1e-7, tokens=[1, 2], greedy=0)]


FOLDER = "predictions/tiny@0123456789abcdef/demo"


KEYS = ["shard", "model", "answers", "count", "inferred", "reused", "seconds", "load_seconds", "work"]
KEYS += [
    "predicted_seconds",
    "gpus",
    "gpu_names",
    "started",
    "finished",
    "batch_size",
    "hardware",
    "packages",
    "sha256",
]
BYTES = (
    '{"id": "a", "logprobs": [-0.5, -1e-07], "tokens": [1, 2], "greedy": [true, false], "cut": 0}\n'
    '{"id": "b", "text": "two\\nlines", "tokens": 3, "end": "stop", "cut": 0}\n'
    '{"complete": {"shard": "shard", "model": "0123456789abcdef", "answers": 6'
    ', "count": 2, "inferred": 1, "reused": 0, "seconds": 1.0, "load_seconds": 1.0'
    ', "work": {"read": 5, "written": 7, "longest": 7}, "predicted_seconds": 2.0, "gpus": ["7"], "gpu_names": ["H100"]'
    ', "started": "2026-11-25T00:00:00+00:00", "finished": "2026-11-25T00:00:02+00:00"'
    ', "batch_size": "auto", "hardware": {}, "packages": {"torch": "2"}'
    ', "sha256": "51483e9e28026423ba617b59d70d4ae9284f602f1c62a4b09c4faec5c6ac344a"}}\n'
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / FOLDER / "shard.jsonl"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_predictions(tmp_path / FOLDER / "shard.jsonl", PREDICTIONS, FACTS)
    return tmp_path / FOLDER / "shard.jsonl"


def refused(path: Path) -> str:
    """Why a file is refused; nothing else may come of it."""
    (problem,) = problems(read_predictions, path)
    assert problem.where == str(path)
    assert problem.what.startswith("not a complete prediction file: ")
    assert problem.fix == "delete it; the next run recreates it"
    return problem.what.partition(": ")[2]


def test_predictions_come_back_with_how_they_were_made(written: Path) -> None:
    predictions, trailer = read_predictions(written)
    assert predictions == {p.id: p for p in PREDICTIONS}
    assert to_json(trailer).items() >= to_json(FACTS).items()
    assert trailer.count == 2


@property_test
@given(texts=st.dictionaries(TEXT, TEXT, max_size=5), facts=st.dictionaries(TEXT, TEXT, max_size=2))
def test_any_text_comes_back(scratch: Path, texts: dict[str, str], facts: dict[str, str]) -> None:
    write_predictions(scratch, [wrote(key, text) for key, text in texts.items()], made(hardware=facts, packages=facts))
    predictions, trailer = read_predictions(scratch)
    assert predictions == {key: wrote(key, text) for key, text in texts.items()}
    assert trailer.hardware == trailer.packages == facts
    assert read_trailer(scratch) == trailer


@pytest.mark.parametrize("separator", LINE_ENDS, ids=repr)
def test_what_ends_a_line_elsewhere_does_not_here(tmp_path: Path, separator: str) -> None:
    path = tmp_path / FOLDER / "shard.jsonl"
    prediction = wrote("a", f"{separator}x{separator}{separator}")
    write_predictions(path, [prediction], made(hardware={"note": separator}))
    assert path.read_bytes().count(b"\n") == len(path.read_bytes().splitlines()) == 2
    assert read_predictions(path)[0] == {"a": prediction}


@property_test
@given(values=st.lists(st.floats(allow_nan=False), max_size=5))
def test_numbers_come_back_exactly(scratch: Path, values: list[float]) -> None:
    write_predictions(scratch, [scored("a", *values)], made())
    assert read_predictions(scratch)[0] == {"a": scored("a", *values)}


def test_the_same_answers_make_the_same_bytes_in_whatever_order_they_came(tmp_path: Path) -> None:
    one, two = tmp_path / "1" / FOLDER / "shard.jsonl", tmp_path / "2" / FOLDER / "shard.jsonl"
    write_predictions(one, PREDICTIONS, FACTS)
    write_predictions(two, PREDICTIONS[::-1], FACTS)
    assert one.read_bytes() == two.read_bytes()


def test_a_frame_that_several_answers_share_is_written_once(tmp_path: Path) -> None:
    path, one, two = tmp_path / FOLDER / "shard.jsonl", ("<s>", (0, "strip")), ("<s>", (0, ""), "é")
    sent = {"a": (one,), "b": (), "c": (two, one), "d": (two,), "e": (one, one)}
    answers = {key: scored(key, -1.0, sent=frames) for key, frames in sent.items()}
    write_predictions(path, answers.values(), made())
    assert read_predictions(path)[0] == answers
    assert [json.loads(line).get("sent") for line in path.read_bytes().splitlines()[:-1]] == [
        [["<s>", [0, "strip"]]], None, [["<s>", [0, ""], "é"], 0], [1], [0, 0],
    ]  # fmt: skip
    assert json.loads(path.read_bytes().splitlines()[-1])["complete"]["format"] == 2, "which older versions refuse"
    assert read_trailer(path) == read_predictions(path)[1]


@pytest.mark.parametrize("number", [0, -1])
def test_a_frame_that_no_line_has_is_refused(tmp_path: Path, number: int) -> None:
    path = tmp_path / FOLDER / "shard.jsonl"
    body = json.dumps(to_json(scored("a", -1.0, sent=(number,)))).encode() + b"\n"
    facts = {"shard": "shard", "model": "0123456789abcdef", "answers": 6, "count": 1, **to_json(FACTS)}
    write_whole(path, body + _trailer(body, facts))
    assert refused(path).endswith(f"sent: no line before has frame {number}")


def test_the_whole_file_of_another_shard_is_refused(written: Path) -> None:
    other = written.rename(written.with_name("other.jsonl"))
    assert refused(other) == "it belongs to shard shard"
    assert problems(check_predictions, other)


def test_a_shard_without_requests_is_whole_too(tmp_path: Path) -> None:
    write_predictions(tmp_path / FOLDER / "shard.jsonl", [], made())
    predictions, trailer = read_predictions(tmp_path / FOLDER / "shard.jsonl")
    assert (predictions, trailer.count) == ({}, 0)


def test_a_file_cut_off_at_any_byte_is_refused(written: Path) -> None:
    whole = written.read_bytes()
    for length in range(len(whole)):
        written.write_bytes(whole[:length])
        assert refused(written)


@pytest.mark.parametrize("bit", [0, 5, 7])
def test_a_file_with_any_byte_changed_is_refused(written: Path, bit: int) -> None:
    whole = written.read_bytes()
    for place in range(len(whole)):
        written.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        assert refused(written)


@property_test
@given(place=st.integers(0, 600), byte=st.integers(0, 255))
def test_a_file_with_any_byte_more_is_refused(scratch: Path, place: int, byte: int) -> None:
    write_predictions(scratch, PREDICTIONS, FACTS)
    whole = scratch.read_bytes()
    place %= len(whole) + 1
    scratch.write_bytes(whole[:place] + bytes([byte]) + whole[place:])
    assert refused(scratch)


@pytest.mark.parametrize(
    "order",
    [[0, 0, 1, 2], [0, 1, 1, 2], [0, 1, 2, 2], [1, 0, 2], [0, 2], [1, 2], [0, 1], [2], [2, 0, 1], [0, 1, 2, 0, 1, 2]],
    ids=str,
)
def test_lines_that_are_doubled_lost_or_out_of_order_are_refused(written: Path, order: list[int]) -> None:
    lines = written.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    written.write_bytes(b"".join(lines[n] for n in order))
    assert refused(written)


def test_a_request_that_is_answered_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / FOLDER / "shard.jsonl"
    write_predictions(path, [wrote("a", "x"), wrote("b", "x"), wrote("a", "y")], made())
    assert refused(path) == "a request is answered twice"


def test_a_trailer_of_another_file_is_refused(written: Path, tmp_path: Path) -> None:
    write_predictions(tmp_path / FOLDER / "other.jsonl", PREDICTIONS[:1], FACTS)
    *_, foreign = (tmp_path / FOLDER / "other.jsonl").read_bytes().splitlines(keepends=True)
    *own, _ = written.read_bytes().splitlines(keepends=True)
    written.write_bytes(b"".join([*own, foreign]))
    assert refused(written) == "its lines do not match the hash in its trailer"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\n\n\n",
        b"null\n",
        b"[]\n",
        b'"complete"\n',
        b'{"complete": 5}\n',
        b'{"complete": null}\n',
        b'{"complete": {}}\n',
        b'{"complete": {"count": 0}}\n',
        b'{"complete": {"count": 0, "sha256": 3}}\n',
        b'5\n{"complete": {"count": 1, "sha256": ""}}\n',
        b'{"text": "no id"}\n{"complete": {"count": 1, "sha256": ""}}\n',
        b"\x00" * 4096,
        b"\xff\xfe\n",
        b"{" * 100,
    ],
)
def test_what_is_no_prediction_file_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    write_whole(tmp_path / FOLDER / "shard.jsonl", content)
    assert refused(tmp_path / FOLDER / "shard.jsonl")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    assert refused(tmp_path / FOLDER / "gone.jsonl") == "No such file or directory"


def test_the_trailer_is_found_at_the_end_of_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / FOLDER / "shard.jsonl"
    write_predictions(path, [wrote(str(n), "x" * 1000) for n in range(100)], FACTS)
    assert path.stat().st_size > 5 * TAIL_BYTES
    assert read_trailer(path) == read_predictions(path)[1]


@pytest.mark.parametrize("content", [None, b"", b'{"id": "a"}\n', b'{"complete": [1]}\n', b'{"complete": {"co'])
def test_a_file_without_a_trailer_has_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / FOLDER / "shard.jsonl"
    if content is not None:
        write_whole(path, content)
    assert read_trailer(path) is None


def test_the_file_is_plain_json_lines(written: Path) -> None:
    first, second, last = map(json.loads, written.read_text("ascii").splitlines())
    assert (first["id"], second["id"], list(last)) == ("a", "b", ["complete"])


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    models = ("tiny@1", "tiny@2", "small@1")
    mine, other, renamed = (tmp_path / "predictions" / model / "demo/shard.jsonl" for model in models)
    write_predictions(mine, PREDICTIONS, FACTS)
    for copy in (other, renamed):
        copy.parent.mkdir(parents=True)
        copy.write_bytes(mine.read_bytes())
    assert refused(other) == "it belongs to the model with digest 1"
    check_predictions(renamed)


def test_a_file_that_does_not_say_whose_answers_it_holds_counts(written: Path) -> None:
    *lines, last = written.read_bytes().splitlines(keepends=True)
    facts = {key: value for key, value in json.loads(last)["complete"].items() if key not in ("model", "sha256")}
    written.write_bytes(b"".join(lines) + _trailer(b"".join(lines), facts))
    check_predictions(written)
    assert (read_predictions(written)[1].model, facts["count"]) == ("", 2)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"later": 1}, "its trailer cannot be read: Object contains unknown field `later`"),
        ({"seconds": "1"}, "its trailer cannot be read: Expected `float`, got `str` - at `$.seconds`"),
        ({"hardware": None}, "its trailer cannot be read: Expected `object`, got `null` - at `$.hardware`"),
    ],
)
def test_a_trailer_that_says_something_else_is_refused_by_its_key(
    written: Path, change: dict[str, Any], what: str
) -> None:
    *lines, last = written.read_bytes().splitlines(keepends=True)
    facts = {key: value for key, value in json.loads(last)["complete"].items() if key != "sha256"}
    written.write_bytes(b"".join(lines) + _trailer(b"".join(lines), facts | change))
    assert refused(written) == what
    assert read_trailer(written) is None


def test_the_bytes_of_a_file_are_pinned(tmp_path: Path) -> None:
    """As they were when predictions and trailers were dicts."""
    path = tmp_path / FOLDER / "shard.jsonl"
    work = Work(read=5, written=7, longest=7)
    facts = made(work=work, predicted_seconds=2.0, gpus=["7"], gpu_names=["H100"], packages={"torch": "2"})
    write_predictions(path, PREDICTIONS, facts)
    assert path.read_text("ascii") == BYTES
    write_predictions(path, [], made(inferred=0, work=Work(read=0, written=0)))
    (trailer,) = map(json.loads, path.read_text("ascii").splitlines())
    assert [*trailer["complete"]] == [key for key in KEYS if key not in ("predicted_seconds", "gpus", "gpu_names")]
