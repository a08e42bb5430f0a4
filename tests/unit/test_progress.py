"""How far a run is, and what has failed, from the files that are there."""

import os
from pathlib import Path

import pytest

from answered import wrote
from projects import many_rows, plan, write_dataset, write_model
from shardmark.files import read_jsonl
from shardmark.plan.plan import Plan
from shardmark.store.partials import append_partial
from shardmark.workflow.progress import LINES, Course, Done, done, failures, file_time, progress_lines


@pytest.fixture
def run(tmp_path: Path) -> Plan:
    """The plan of a model on two data sets, of which each has several shards."""
    write_model(tmp_path, "tiny")
    for name in ("sums", "more"):
        write_dataset(tmp_path, name, many_rows())
    return plan(tmp_path, max_shard_size=16)


def prediction_file(run: Plan, pair: int, shard: int) -> Path:
    """Where a shard's predictions are to be."""
    wanted = run.pairs[pair]
    folder = run.results / "predictions" / wanted.model.full_name / wanted.dataset.name
    return folder / f"{wanted.missing[shard].name}.jsonl"


def finish(run: Plan, pair: int, shard: int) -> int:
    """Let a shard be done; its requests."""
    path = prediction_file(run, pair, shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return int(run.pairs[pair].missing[shard].requests)


def log(run: Plan, pair: int, shard: int, text: str) -> Path:
    """Write a shard's log."""
    path = prediction_file(run, pair, shard)
    log = run.results / "logs/infer" / path.relative_to(run.results / "predictions").with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    return log


def test_shards_that_are_there_and_answers_of_others_are_done(run: Plan) -> None:
    assert done(run.results, run.pairs[0]) == Done(0, 0, 0.0)
    requests = finish(run, 0, 0)
    append_partial(prediction_file(run, 0, 1), [wrote("a"), wrote("b")])
    append_partial(prediction_file(run, 0, 1), [wrote("c")])
    shards, answered, seconds = done(run.results, run.pairs[0])
    assert (shards, answered) == (1, requests + 3)
    assert 0 < seconds < run.pairs[0].seconds.inference
    for shard in range(len(run.pairs[0].missing)):
        finish(run, 0, shard)
    assert done(run.results, run.pairs[0]).requests == 64


def test_answers_that_were_there_before_are_not_the_runs(run: Plan, tmp_path: Path) -> None:
    (shard, *_) = run.pairs[0].missing
    first = next(iter(read_jsonl(run.results / "requests/more" / f"{shard.name}.jsonl")))
    append_partial(prediction_file(run, 0, 0), [wrote(first["id"], "4")])
    again = plan(tmp_path, max_shard_size=16)
    assert again.pairs[0].missing[0].left == shard.requests - 1
    assert done(again.results, again.pairs[0]) == Done(0, 0, 0.0)


def test_progress_names_the_pairs_that_have_got_on(run: Plan) -> None:
    one, two = (len(pair.missing) for pair in run.pairs)
    cost = run.pairs[0].seconds.inference
    before = {0: Done(0, 0, 0.0), 1: Done(0, 0, 0.0)}
    now = {0: Done(1, 20, cost / 2), 1: Done(0, 0, 0.0)}
    assert list(progress_lines(run.pairs, before, now, 10.0)) == [
        f"progress: 1 of {one + two} shards, 20 of 128 requests, about 30 s left",
        f"    tiny on more: 1 of {one} shards, 20 of 64 requests",
    ]
    (first, *_) = progress_lines(run.pairs, now, before, 10.0)
    assert first == f"progress: 0 of {one + two} shards, 0 of 128 requests"


def test_progress_of_very_many_pairs_is_short(run: Plan) -> None:
    pairs = run.pairs * 20
    before, now = ({n: Done(shards, 0, 0.0) for n in range(40)} for shards in (0, 1))
    lines = list(progress_lines(pairs, before, now, 10.0))
    assert len(lines) == LINES + 2
    assert lines[-1] == "    and 30 more"


def test_shards_that_failed_for_one_reason_are_told_together(run: Plan) -> None:
    since = file_time(run.results)
    text = "2026-01-01 10:00:00,000 INFO a: {}\n2026-01-01 10:00:0{},000 ERROR root: no such luck\n    fix: none\n"
    first = log(run, 0, 0, text.format(1, 1))
    log(run, 0, 1, text.format(2, 2))
    log(run, 1, 0, "2026-01-01 10:00:00,000 INFO a: 1\n\n2026-01-01 10:00:00,000 INFO a: 2\nb\nc\n")
    finish(run, 0, 2)
    log(run, 0, 2, text.format(3, 3))
    names = [shard.name for shard in run.pairs[0].missing]
    *told, last = failures(run, since)
    assert told[:3] == [
        f"failed: tiny on more, shards {names[0]}, {names[1]}; the end of {first}:",
        "    ERROR root: no such luck",
        "        fix: none",
    ]
    assert told[3].startswith(f"failed: tiny on sums, shard {run.pairs[1].missing[0].name}; the end of ")
    assert told[4:] == ["    INFO a: 2", "    b", "    c"]
    total = sum(len(pair.missing) for pair in run.pairs)
    assert last.startswith(f"{total - 1} of {total} shards are missing")


def test_a_reason_that_data_sets_share_is_told_once(run: Plan) -> None:
    since = file_time(run.results)
    first, _ = (log(run, pair, 0, "2026-01-01 10:00:00,000 ERROR root: no model\n") for pair in (0, 1))
    names = [f"tiny on {pair.dataset.name}, shard {pair.missing[0].name}" for pair in run.pairs[:2]]
    told = list(failures(run, since))
    assert told[:2] == [f"failed: {'; '.join(names)}; the end of {first}:", "    ERROR root: no model"]
    assert len(told) == 3


def test_logs_of_an_earlier_run_are_not_told(run: Plan) -> None:
    old = log(run, 0, 0, "2026-01-01 10:00:00,000 ERROR root: long ago\n")
    since = file_time(run.results)
    os.utime(old, (since - 1, since - 1))
    (last,) = failures(run, since)
    assert "shards are missing" in last


def test_a_report_or_a_score_that_failed_is_told(run: Plan) -> None:
    since = file_time(run.results)
    path = run.results / "logs/report" / f"{run.report.name}.log"
    path.parent.mkdir(parents=True)
    path.write_text("2026-01-01 10:00:00,000 ERROR root: no template\n")
    assert list(failures(run, since))[:2] == [f"failed: the report; the end of {path}:", "    ERROR root: no template"]


def test_a_command_without_a_plan_has_no_course() -> None:
    told: list[str] = []
    course = Course(None, told.append, told.append)
    course.begin()
    course.fail()
    assert told == []
