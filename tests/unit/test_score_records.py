"""Score files, samples and timings: the keys and their order are those of before there were records."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shardmark.errors import UserError
from shardmark.records.base import Unreadable, convert, to_json
from shardmark.records.sample import Sample, read_sample, sample_line
from shardmark.records.score import Scores
from shardmark.records.timings import Timings
from shardmark.report.inputs import read_scores
from unit.report.fake_results import make_sample, make_samples, make_scores

GENERATED = (
    '{"sample": "b", "request": "r", "prompt": "1+1=", "sent": ["<s>", [0, 4]], "output": "\\ud83d is 2.", '
    '"answer": "2", "target": ["2", "two"], "end": "stop", "outputs": ["a", "b"], "answers": {"": ["2", null]}, '
    '"steps": {"": {"1": ["a", [0, 1]], "2": ["2", null]}}, '
    '"scores": {"exact_match": 1.0}, "answer_scores": {"exact_match": [1.0, 0.0]}, "truncated": 0, '
    '"row": {"n": "b"}, "group": "g", "thought_tokens": 3, "answer_tokens": 2, "thought_cut": true, '
    '"reasoning": "1, then 2"}\n'
)
CHOSEN = (
    '{"sample": "a", "request": "r", "prompt": "Q", "choices": ["x", 2], "output": "x", "logprobs": [-1.0, -1.0], '
    '"tokens": [1, 2], "answer": 0, "target": 1, "scores": {"acc": 0.0, "mc2": null}, '
    '"rotations": [{"request": "s", "output": "x", "answer": 0, "target": 1, "logprobs": [-1.0]}], '
    '"truncated": 3, "row": [], '
    '"tied": true, "alone": 1, "within_thought": true}\n'
)
TIMINGS = {
    "shards": ["s"],
    "seconds": 3.0,
    "load_seconds": 1.0,
    "predicted_seconds": 4.0,
    "requests": 4,
    "reused": 2,
    "started": "2026-01-01T00:00:00+00:00",
    "finished": "2026-01-01T00:01:00+00:00",
    "batch_size": "auto",
    "samples_sha256": "0" * 64,
}


def scores(**more: Any) -> dict[str, Any]:
    return make_scores("a", "demo_capitals", make_samples("a", "demo_capitals", 9)) | more


@pytest.mark.parametrize("line", [GENERATED, CHOSEN])
def test_a_sample_is_written_as_it_was_before(line: str) -> None:
    assert sample_line(read_sample(line.encode())) == line


def test_timings_are_written_as_they_were_before() -> None:
    assert json.dumps(to_json(convert(TIMINGS, Timings))) == json.dumps(TIMINGS)


def test_a_score_file_is_written_as_it_was_before() -> None:
    value = scores()
    value["dataset"] |= {"remarks": ["two words"], "limit": {"limit": 40, "samples": 40, "of": 99}}
    value["counts"] |= {"tied": 1}
    written = to_json(convert(value, Scores))
    for part in (value, written):
        part["provenance"].pop("inference")  # of version 0.1, which noted fewer facts
    assert json.loads(json.dumps(written)) == value
    assert list(written) == list(value)


@pytest.mark.parametrize(("old", "new"), [('"end"', '"ended"'), ('"truncated"', '"cut"'), ('"scores"', '"score"')])
def test_a_key_of_a_sample_that_drifts_is_an_error_and_no_blank(old: str, new: str) -> None:
    with pytest.raises(Unreadable, match=f"({new.strip(chr(34))}|{old.strip(chr(34))})"):
        read_sample(GENERATED.replace(old, new))


@pytest.mark.parametrize("key", ["near_miss", "extra"])
def test_a_key_of_a_score_file_that_drifts_is_an_error(tmp_path: Path, key: str) -> None:
    value = scores()
    value["counts"][key] = 0
    (tmp_path / "s.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=f"s.json: .*{key}.*counts"):
        read_scores(tmp_path / "s.json")


def test_a_writer_cannot_misspell_a_key() -> None:
    with pytest.raises(TypeError, match="ended"):
        make_sample(ended="stop")


def test_a_score_file_of_version_0_1_is_read(tmp_path: Path) -> None:
    value = scores()
    del value["counts"]["near_misses"]
    del value["provenance"]["inference"]["predicted_seconds"], value["provenance"]["inference"]["shards"]
    value["provenance"]["shards"] = 2
    (tmp_path / "s.json").write_text(json.dumps(value))
    read = read_scores(tmp_path / "s.json")
    assert (read.counts.near_misses, read.provenance.inference is None) == (0, False)


def test_a_score_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps(scores(protocol=2)))
    with pytest.raises(UserError, match="written by a newer Shardmark"):
        read_scores(tmp_path / "s.json")


def test_numbers_that_json_cannot_say_and_halves_of_characters_are_read() -> None:
    sample = read_sample(CHOSEN.replace("-1.0, -1.0", "-Infinity, NaN").replace('"mc2": null', '"mc2": NaN').encode())
    assert (sample.logprobs, sample.scores) == ([None, None], {"acc": 0.0, "mc2": None})
    assert read_sample(GENERATED.encode()).output == "\ud83d is 2."
    with pytest.raises(Unreadable, match="not valid JSON"):
        read_sample(b"{")


def test_a_sample_is_made_of_all_its_keys() -> None:
    names = [field.encode_name for field in msgspec.structs.fields(Sample)]
    assert set(json.loads(GENERATED)) | set(json.loads(CHOSEN)) == set(names)
