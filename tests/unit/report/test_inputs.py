"""Score files that cannot be used are refused, with the file and what is wrong in it."""

import json
from pathlib import Path

import pytest

from shardmark.errors import UserError
from shardmark.files import file_sha256, sealed
from shardmark.records.base import to_json
from shardmark.report.build import build_report
from shardmark.report.facts import run_facts
from shardmark.report.inputs import read_scores
from shardmark.report.results import read_results
from unit.report.fake_results import FACTS, Files, make_samples, make_scores, make_timings, write_pair, write_results


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return write_results(tmp_path, ["a"], ["x"], n=5)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "..", "a/b", "", ".hidden", "a b"])
def test_a_name_that_is_no_safe_file_name_is_refused(files: Files, name: str) -> None:
    scores = json.loads(files.scores[0].read_text("utf-8"))
    scores["model"]["name"] = name
    files.scores[0].write_text(json.dumps(scores), "utf-8")
    with pytest.raises(UserError, match=r"model\.name: .*not a safe file name"):
        read_scores(files.scores[0])


def test_a_primary_metric_that_is_missing_is_refused(files: Files) -> None:
    text = files.scores[0].read_text("utf-8").replace('"primary": "token_f1"', '"primary": "bleu"')
    files.scores[0].write_text(text, "utf-8")
    with pytest.raises(UserError, match="'bleu' is not among"):
        read_scores(files.scores[0])


def test_another_protocol_is_refused(files: Files) -> None:
    text = files.scores[0].read_text("utf-8").replace('"protocol": 1', '"protocol": 2')
    files.scores[0].write_text(text, "utf-8")
    with pytest.raises(UserError, match="protocol"):
        read_scores(files.scores[0])


def test_numbers_that_are_not_finite_are_unknown(files: Files) -> None:
    scores = json.loads(files.scores[0].read_text("utf-8"))
    scores["metrics"]["token_f1"] |= {"stderr": float("nan"), "ci95": [float("-inf"), float("inf")]}
    files.scores[0].write_text(json.dumps(scores), "utf-8")
    metric = read_scores(files.scores[0]).main
    assert (metric.stderr, metric.ci95) == (None, (None, None))


def test_a_broken_sample_is_named_by_its_line(files: Files, tmp_path: Path) -> None:
    with files.samples[0].open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    with pytest.raises(UserError, match=r"\.jsonl:6: not valid JSON"):
        build_report("run", *files, tmp_path / "out", FACTS)


def test_samples_without_scores_are_refused(files: Files) -> None:
    with pytest.raises(UserError, match="samples without scores"):
        read_results([], files.samples)


def test_no_scores_at_all_are_refused() -> None:
    with pytest.raises(UserError, match="no score file"):
        read_results([], [])


def test_a_pair_given_twice_is_refused(files: Files) -> None:
    with pytest.raises(UserError, match="a second score file of a on x"):
        read_results(files.scores * 2, files.samples)


def test_two_versions_of_a_data_set_under_one_name_are_refused(tmp_path: Path, files: Files) -> None:
    samples = make_samples("b", "x", 5)
    scores = make_scores("b", "x", samples)
    scores["dataset"]["digest"] = "another"
    write_pair(tmp_path, files, scores, samples)
    with pytest.raises(UserError, match="data set x: has two values of its digest"):
        read_results(*files)


def test_timings_are_those_of_the_pair_with_the_same_file_name(tmp_path: Path, files: Files) -> None:
    scores = files.scores[0]
    timings = tmp_path / "timings" / scores.parent.name / scores.name
    timings.parent.mkdir(parents=True)
    timings.write_text(json.dumps(to_json(make_timings(predicted_seconds=10.0, shards=["s"]))))
    (pair,) = read_results(*files, timings=[timings])
    assert pair.timings is not None
    assert pair.timings.seconds == 12.5
    facts = {fact.label: fact.values for fact in run_facts(read_results(*files, timings=[timings]), {})}
    assert facts["Predicted"] == ["10.0 s, actually 12.5 s; median error of pairs: 20%"]
    timings.write_text(json.dumps(to_json(make_timings(predicted_seconds=0.5, seconds=0.2, shards=["s"]))))
    facts = {fact.label: fact.values for fact in run_facts(read_results(*files, timings=[timings]), {})}
    assert facts["Predicted"] == ["0.5 s, actually 0.2 s; median error of pairs: 0.3 s"]


def test_broken_timings_are_refused_by_name(tmp_path: Path, files: Files) -> None:
    timings = tmp_path / files.scores[0].parent.name / files.scores[0].name
    timings.parent.mkdir(parents=True, exist_ok=True)
    timings.write_text('{"seconds": ')
    with pytest.raises(UserError, match="not valid JSON"):
        read_results(*files, timings=[timings])


def test_a_score_that_is_not_the_one_that_was_written_is_not_shown(files: Files) -> None:
    text = json.dumps(sealed(json.loads(files.scores[0].read_text("utf-8"))))
    files.scores[0].write_text(text, "utf-8")
    read_scores(files.scores[0])
    files.scores[0].write_text(text.replace('"n": 5', '"n": 7', 1), "utf-8")
    with pytest.raises(UserError, match="damaged: its checksum does not match its contents"):
        read_scores(files.scores[0])


def test_samples_that_are_not_those_of_the_score_are_not_shown(tmp_path: Path, files: Files) -> None:
    timings = tmp_path / "timings" / files.scores[0].parent.name / files.scores[0].name
    timings.parent.mkdir(parents=True)
    timings.write_text(json.dumps(sealed(to_json(make_timings(samples_sha256=file_sha256(files.samples[0]))))))
    build_report("demo", *files, tmp_path / "out", {}, timings=[timings])
    files.samples[0].write_text(files.samples[0].read_text("utf-8").replace("a", "b", 1), "utf-8")
    with pytest.raises(UserError, match="damaged: it does not match the hash in its timings"):
        build_report("demo", *files, tmp_path / "out", {}, timings=[timings])
