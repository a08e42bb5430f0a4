"""The plan: all mistakes at once, names that follow from content, and nothing made twice."""

import hashlib
import io
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import answered
from answered import wrote
from projects import (
    GENERATE,
    ROWS,
    change_yaml,
    files_of,
    many_rows,
    plan,
    problems,
    property_test,
    run_config,
    safetensors_file,
    write_dataset,
    write_model,
    write_rows,
    write_weights,
    write_yaml,
)
from shardmark import layout
from shardmark.files import is_sealed, jsonl, pretty_json, read_json, read_jsonl, sealed, sha256, write_whole
from shardmark.metrics import METRICS
from shardmark.metrics.base import Needs
from shardmark.plan.cost import Seconds, prior_load_seconds, prior_seconds
from shardmark.plan.pairs import MissingShard, Pair, score_files
from shardmark.plan.plan import Plan, make_plan
from shardmark.plan.summary import can_show, print_summary, wall_seconds, work_seconds
from shardmark.records.base import read_sealed_record, to_json
from shardmark.records.shard import ShardLists, ShardRecord
from shardmark.records.trailer import Work
from shardmark.store.partials import append_partial
from shardmark.store.predictions import write_predictions
from shardmark.workflow.rule_inputs import Inputs

CHOICE: dict[str, Any] = {"kind": "choice", "prompt": "{{ question }}", "choices": "options", "target": "label"}
CHOICE |= {"metrics": ["accuracy"]}
FACTS: dict[str, Any] = {"seconds": 0.0, "load_seconds": 0.0, "work": Work(read=0, written=0)}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with the model `tiny` and the data set `sums`."""
    write_model(tmp_path, "tiny")
    write_dataset(tmp_path, "sums")
    return tmp_path


@pytest.fixture
def sharded(root: Path) -> Path:
    """A project whose data set has an id column and, with max_shard_size=8, several shards."""
    write_dataset(root, "sums", many_rows(), **GENERATE, id_column="name")
    return root


def shards_of(made: Plan) -> list[MissingShard]:
    """The shards of a plan's only pair, of which nothing has been answered yet."""
    (pair,) = made.pairs
    assert len(pair.missing) == pair.shards
    return pair.missing


def shard_names(made: Plan) -> set[str]:
    return {shard.name for shard in shards_of(made)}


def requests_in(made: Plan, shards: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    folder = made.results / "requests" / made.datasets[0].name
    return [line for shard in shards for line in read_jsonl(folder / f"{shard.name}.jsonl")]


def requests_of(made: Plan) -> dict[str, Any]:
    """All requests on disk by id."""
    lines = requests_in(made, shards_of(made))
    return {line["id"]: {key: value for key, value in line.items() if key != "id"} for line in lines}


def task_of(made: Plan) -> list[Any]:
    record = made.datasets[0]
    return list(read_jsonl(made.results / "tasks" / f"{record.name}@{record.digest}.jsonl"))


def levels_of(made: Plan) -> dict[str, list[ShardRecord]]:
    """What jobs know of a data set's shards: those of each division, by its number of bits."""
    record = made.datasets[0]
    path = layout.SHARDS.file(made.results, dataset=record.name, task=record.digest)
    return read_sealed_record(path, ShardLists).levels


def predictions_of(made: Plan, pair: Pair) -> Path:
    return made.results / "predictions" / pair.model.full_name / pair.dataset.name


def answer(made: Plan, shards: Iterable[ShardRecord], **facts: Any) -> None:
    """Answers of a plan's only pair to all requests of some shards."""
    (pair,) = made.pairs
    for shard in shards:
        answers = [wrote(request["id"]) for request in requests_in(made, [shard])]
        write_predictions(predictions_of(made, pair) / f"{shard.name}.jsonl", answers, answered.made(**(FACTS | facts)))


def without_times(files: dict[str, tuple[int, bytes]]) -> dict[str, bytes]:
    return {name: content for name, (_, content) in files.items()}


# What is written


def test_every_request_is_in_a_file_under_its_id(sharded: Path) -> None:
    made = plan(sharded, max_shard_size=8)
    found = requests_of(made)
    assert len(shards_of(made)) > 3
    assert len(found) == sum(shard.requests for shard in shards_of(made)) == made.datasets[0].requests == 64
    assert all(sha256(request) == key for key, request in found.items())
    assert {request["prompt"] for request in found.values()} == {f"Q: {row['question']}\nA:" for row in many_rows()}


def test_the_task_file_says_what_scoring_needs(root: Path) -> None:
    made = plan(root)
    header, *lines = task_of(made)
    assert is_sealed(header)
    assert header["samples_sha256"] == hashlib.sha256(jsonl(lines).encode()).hexdigest()
    assert header["dataset"]["rows"] == len(ROWS)
    assert header["dataset"]["origin"]["file"] == str(root / "data/sums.jsonl")
    assert [line["target"] for line in lines] == [[row["answer"]] for row in ROWS]
    assert [line["row"] for line in lines] == ROWS
    assert {line["request"] for line in lines} == requests_of(made).keys()


def test_choices_are_in_the_task_file(root: Path) -> None:
    write_dataset(root, "sums", [{"question": "?", "options": ["a", "b"], "label": 1}], **CHOICE)
    _, line = task_of(plan(root))
    assert (line["choices"], line["target"]) == (["a", "b"], 1)


def test_jobs_find_the_model_and_the_report_by_their_names(root: Path) -> None:
    write_model(root, "other")
    write_dataset(root, "words")
    made = plan(root, run="test")
    assert [f"{pair.model.name}/{pair.dataset.name}" for pair in made.pairs] == [
        "other/sums",
        "other/words",
        "tiny/sums",
        "tiny/words",
    ]
    for model in made.models:
        assert read_json(layout.MODELS.file(made.results, model=model.full_name)) == sealed(to_json(model))
    inputs = read_json(layout.REPORT_INPUTS.file(made.results, report=made.report.name))
    assert list(zip(inputs["scores"], inputs["samples"], inputs["timings"], strict=True)) == [
        score_files(made.results, pair.model, pair.dataset) for pair in made.pairs
    ]
    assert made.published == root / "results/reports/test"
    assert made.report.parent == made.published.parent


def test_jobs_find_the_shards_of_their_model_and_data_set(sharded: Path) -> None:
    write_model(sharded, "other")
    made = plan(sharded, max_shard_size=8)
    first, second = made.pairs
    write_predictions(predictions_of(made, second) / f"{second.missing[0].name}.jsonl", [], answered.made(**FACTS))
    inputs = Inputs(str(made.results), run_config(sharded, max_shard_size=8))
    for pair, missing in ((first, first.missing), (second, second.missing[1:])):
        record = pair.dataset
        job = SimpleNamespace(model=pair.model.full_name, dataset=record.name, task=record.digest)
        folder = predictions_of(made, pair)
        assert inputs.missing_predictions(job) == [str(folder / f"{shard.name}.jsonl") for shard in missing]


def test_the_column_to_group_by_is_in_the_task_file(root: Path) -> None:
    write_dataset(root, "sums", [row | {"level": n % 2} for n, row in enumerate(ROWS)], **GENERATE, group_by="level")
    assert [line["group"] for line in task_of(plan(root))[1:]] == ["0", "1", "0", "1", "0"]
    change_yaml(root / "config/datasets/sums.yaml", group_by=None)
    assert not any("group" in line for line in task_of(plan(root))[1:])


def test_a_column_to_group_by_that_is_missing_is_a_problem_of_that_key(root: Path) -> None:
    change_yaml(root / "config/datasets/sums.yaml", group_by="nam")
    (problem,) = problems(plan, root)
    assert (problem.where, problem.key, problem.fix) == (
        "config/datasets/sums.yaml",
        "group_by",
        "did you mean 'name'?",
    )
    assert "no column 'nam'" in problem.what


def test_any_text_in_rows_is_planned(root: Path) -> None:
    rows = [{"question": text, "answer": "\ud800"} for text in ("\u2028", "\x85\r\n", "\udfff", "😀", "\x00")]
    write_dataset(root, "sums", rows)
    made = plan(root)
    assert {request["prompt"] for request in requests_of(made).values()} == {f"Q: {r['question']}\nA:" for r in rows}
    assert [line["target"] for line in task_of(made)[1:]] == [["\ud800"]] * len(rows)


def test_the_limit_is_part_of_what_is_asked(root: Path) -> None:
    assert plan(root, limit=2).datasets[0].samples == 2
    assert plan(root).datasets[0].samples == len(ROWS)


# Nothing is made twice


def test_a_second_plan_is_the_same_and_writes_nothing(sharded: Path) -> None:
    first = plan(sharded, max_shard_size=8)
    before = files_of(sharded)
    second = plan(sharded, max_shard_size=8)
    assert second == first
    assert files_of(sharded) == before


def test_a_second_plan_reads_what_the_first_has_found_instead_of_rendering(root: Path) -> None:
    made = plan(root)
    (memo,) = (made.results / "plans/datasets").iterdir()
    record = read_json(memo) | {"samples": 123}
    del record["sha256"]
    memo.write_text(pretty_json(sealed(record)))
    assert plan(root).datasets[0].samples == 123


@pytest.mark.parametrize("part", ["requests", "tasks", "plans", "models", "."])
def test_what_is_deleted_is_made_again_just_as_it_was(sharded: Path, part: str) -> None:
    first = plan(sharded, max_shard_size=8)
    before = without_times(files_of(sharded))
    shutil.rmtree(sharded / "results" / part)
    assert plan(sharded, max_shard_size=8) == first
    assert without_times(files_of(sharded)) == before


def test_a_single_request_file_that_is_deleted_is_made_again(sharded: Path) -> None:
    made = plan(sharded, max_shard_size=8)
    before = files_of(sharded)
    lost = made.results / "requests/sums" / f"{min(shard_names(made))}.jsonl"
    lost.unlink()
    plan(sharded, max_shard_size=8)
    after = files_of(sharded)
    assert [name for name in before if after[name] != before[name]] == [str(lost.relative_to(sharded))]  # its time
    assert without_times(after) == without_times(before)


def test_a_touched_file_changes_nothing(root: Path) -> None:
    first = plan(root)
    for file in sorted(root.rglob("*")):
        os.utime(file, ns=(10**18, 10**18))
    assert plan(root) == first


def test_a_project_that_was_moved_keeps_all_its_digests(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    first = plan(root)
    moved = shutil.copytree(root, tmp_path_factory.mktemp("moved") / "project")
    for file in moved.glob("config/*/*.yaml"):
        file.write_text(file.read_text().replace(str(root), str(moved)))
    second = plan(moved)
    assert shard_names(second) == shard_names(first)
    assert second.datasets[0].digest == first.datasets[0].digest
    assert second.models[0].digest == first.models[0].digest


def test_the_order_of_keys_and_of_rows_does_not_change_a_shard(root: Path) -> None:
    first = plan(root)
    path = root / "config/datasets/sums.yaml"
    write_yaml(path, dict(reversed(({"source": {"file": str(root / "data/sums.jsonl")}} | GENERATE).items())))
    assert plan(root).datasets == first.datasets
    write_rows(root / "data/sums.jsonl", reversed(ROWS))
    assert shard_names(plan(root)) == shard_names(first)


# Only what depends on a change is new


def test_one_edited_row_changes_two_shards_at_most(sharded: Path) -> None:
    first = plan(sharded, max_shard_size=8)
    rows = many_rows()
    rows[17]["question"] = "What is 17 and 1?"
    write_rows(sharded / "data/sums.jsonl", rows)
    second = plan(sharded, max_shard_size=8)
    assert 1 <= len(shard_names(first) - shard_names(second)) <= 2
    assert 1 <= len(shard_names(second) - shard_names(first)) <= 2
    assert second.datasets[0].digest != first.datasets[0].digest


def test_an_answer_that_was_wrong_is_corrected_without_a_new_shard(sharded: Path) -> None:
    first = plan(sharded)
    write_rows(sharded / "data/sums.jsonl", [row | {"answer": "0"} for row in many_rows()])
    second = plan(sharded)
    assert shard_names(second) == shard_names(first)
    assert second.datasets[0].digest != first.datasets[0].digest
    assert second.report != first.report


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": [{"name": "exact_match", "ignore_case": True}]},
        {"filters": ["strip"]},
        {"filters": ["first_line", "last_number"]},
        {"target": "answer ~ ''"},
        {"chance": 0.5},
        {"version": 2},
        {"group_by": "name"},
    ],
    ids=str,
)
def test_what_only_judges_changes_the_digest_but_no_shard(sharded: Path, change: dict[str, Any]) -> None:
    first = plan(sharded, max_shard_size=8)
    change_yaml(sharded / "config/datasets/sums.yaml", **change)
    second = plan(sharded, max_shard_size=8)
    assert shard_names(second) == shard_names(first)
    assert second.datasets[0].digest != first.datasets[0].digest


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "{{ question }}"},
        {"generation": {"max_new_tokens": 3}},
        {"generation": {"stop": ["\n"]}},
        {"few_shot": {"examples": [{"question": "?", "answer": "!"}], "answer": "{{ answer }}"}},
    ],
    ids=str,
)
def test_what_is_asked_changes_every_shard(sharded: Path, change: dict[str, Any]) -> None:
    first = plan(sharded, max_shard_size=8)
    change_yaml(sharded / "config/datasets/sums.yaml", **change)
    second = plan(sharded, max_shard_size=8)
    assert not shard_names(first) & shard_names(second)
    assert second.datasets[0].digest != first.datasets[0].digest


def test_a_description_changes_neither_shards_nor_digest_but_is_told(root: Path) -> None:
    first = plan(root)
    for description in ("one", "two", "one"):
        change_yaml(root / "config/datasets/sums.yaml", description=description)
        made = plan(root)
        assert (made.datasets[0].digest, shard_names(made)) == (first.datasets[0].digest, shard_names(first))
        assert task_of(made)[0]["settings"]["description"] == description


def test_the_size_of_shards_changes_no_score_and_jobs_know_each_division(sharded: Path) -> None:
    first = plan(sharded, max_shard_size=8)
    task = task_of(first)
    for size, bits in ((100, "0"), (8, "3")):
        made = plan(sharded, max_shard_size=size)
        assert {shard.name for shard in levels_of(made)[bits]} == shard_names(made)
        assert (made.datasets, made.report, task_of(made)) == (first.datasets, first.report, task)
    assert levels_of(first).keys() == {"0", "3"}


def test_a_renamed_data_set_has_a_digest_that_stays(root: Path) -> None:
    first = plan(root)
    (root / "config/datasets/sums.yaml").rename(root / "config/datasets/additions.yaml")
    second = plan(root)
    assert second.datasets[0].name == "additions"
    assert second.datasets[0].digest == first.datasets[0].digest
    assert shard_names(second) == shard_names(first)


def test_a_renamed_model_has_a_digest_that_stays(root: Path) -> None:
    first = plan(root)
    (root / "config/models/tiny.yaml").rename(root / "config/models/small.yaml")
    second = plan(root)
    assert second.models[0].name == "small"
    assert second.models[0].digest == first.models[0].digest


def test_a_changed_model_leaves_the_data_sets_alone(root: Path) -> None:
    first = plan(root)
    (root / "weights/tiny/model.safetensors").write_bytes(safetensors_file(b"others"))
    second = plan(root)
    assert second.models[0].digest != first.models[0].digest
    assert second.datasets == first.datasets
    assert second.report != first.report


def test_a_model_may_come_from_the_command_line(root: Path) -> None:
    weights = write_weights(root / "weights/one-off")
    spelt = "device_map='auto' trust_remote_code=True"
    (model,) = plan(root, hf_path=str(weights), model_kwargs=spelt, num_gpus=0, batch_size=2, dtype="float16").models
    settings = model.settings
    assert (model.name, model.file, model.dtype) == ("one-off", "--config hf_path", "float16")
    assert (settings.trust_remote_code, settings.model_kwargs) == (True, {"device_map": "auto"})
    assert (settings.num_gpus, settings.batch_size) == (0, 2)


# All mistakes at once


def test_mistakes_of_every_kind_are_told_together(root: Path) -> None:
    write_yaml(root / "config/models/typo.yaml", {"path": "x", "batchsize": 3})
    write_yaml(root / "config/models/nowhere.yaml", {"path": "./no/such/folder", "num_gpus": 0})
    write_model(root, "greedy", num_gpus=3)
    (root / "config/models/double.yaml").write_text("path: a\npath: b\n")
    write_dataset(root, "column", **GENERATE | {"prompt": "{{ questoin }}"})
    write_dataset(root, "syntax", **GENERATE | {"prompt": "{{ question"})
    write_dataset(
        root, "one_row", [*ROWS, {"question": 5, "answer": 1}], **GENERATE | {"prompt": "{{ question.upper() }}"}
    )
    write_dataset(root, "label", [{"question": "?", "options": ["a", "b"], "label": 4}], **CHOICE)
    write_dataset(root, "empty", [])
    (write_dataset(root, "broken").parents[2] / "data/broken.jsonl").write_text('{"question": "?"}\n{"question": \n')
    write_dataset(root, "ids", ROWS * 2, **GENERATE, id_column="name")
    (root / "config/datasets/more").mkdir()
    shutil.copy(root / "config/datasets/sums.yaml", root / "config/datasets/more/sums.yaml")
    found = problems(plan, root, models=["*", "tinny"], datasets=["*", "smus"])
    told = [f"{p.where.removeprefix(f'{root}/')} | {p.key} | {p.what} | {p.fix}" for p in found]
    assert all(problem.fix for problem in found)
    expected = [
        "config/config.yaml | models | no file config/models/tinny.yaml | did you mean 'tiny'?",
        "config/config.yaml | datasets | no file config/datasets/smus.yaml | did you mean 'sums'?",
        "config/datasets/more/sums.yaml |  | config/datasets/sums.yaml has the same name 'sums' | rename one",
        "config/models/typo.yaml | batchsize | unknown key | did you mean 'batch_size'?",
        "config/models/double.yaml:1 |  | not valid YAML: key 'path' occurs twice | fix the file",
        "config/models/nowhere.yaml | path | no folder ./no/such/folder | correct the path",
        "config/models/greedy.yaml | num_gpus | model greedy needs 3 GPUs, but this machine has 0 | --config "
        "num_gpus=0",
        "config/datasets/column.yaml | prompt | row 0, 1, 2 and 2 more: no column 'questoin' | did you mean 'questi",
        "config/datasets/syntax.yaml | prompt | not a valid template: ",
        "config/datasets/one_row.yaml | prompt | row 5: UndefinedError: 'int object' has no attribute 'upper'",
        "config/datasets/label.yaml | target | row 0: label 4 is outside the 2 choices | count choices from 0",
        "data/empty.jsonl |  | the file has no rows | put one JSON object on each line",
        "data/broken.jsonl:2 |  | not valid JSON: ",
        "config/datasets/ids.yaml | id_column | the id 'n0' occurs twice (5 ids do) | name a column that is unique",
    ]
    for start in expected:
        assert any(line.startswith(start) for line in told), f"{start!r} is not in\n" + "\n".join(told)
    assert len(told) == len(expected)


def test_a_wrong_run_is_told_before_anything_is_written(root: Path) -> None:
    (problem,) = problems(plan, root, limt=3)
    assert (problem.where, problem.key, problem.fix) == ("config/config.yaml", "limt", "did you mean 'limit'?")
    assert not (root / "results").exists()


def test_no_model_and_no_report_is_written_when_something_is_wrong(root: Path) -> None:
    write_dataset(root, "empty", [])
    problems(plan, root)
    assert not (root / "results/models").exists()
    assert not (root / "results/plans/reports").exists()
    assert not (root / "config/benchmark.lock").exists()


def test_hashes_of_weights_are_kept_though_something_else_is_wrong(root: Path) -> None:
    write_dataset(root, "empty", [])
    problems(plan, root)
    assert str(root / "weights/tiny/model.safetensors") in read_json(root / "results/plans/hashes.json")


def test_a_mended_mistake_is_planned(root: Path) -> None:
    write_dataset(root, "sums", [])
    problems(plan, root)
    write_dataset(root, "sums")
    assert plan(root).datasets[0].samples == len(ROWS)


@pytest.mark.parametrize(
    ("visible", "wanted", "fix"),
    [
        ("", 1, "--config num_gpus=0 runs on the CPU"),
        ("0,1", 3, "num_gpus: at most 2, or use a cluster's profile"),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", 2, "num_gpus: at most 1, or use a cluster's profile"),
        ("-1", 1, "--config num_gpus=0 runs on the CPU"),
    ],
)
def test_more_gpus_than_are_visible_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, visible: str, wanted: int, fix: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    change_yaml(root / "config/models/tiny.yaml", num_gpus=wanted)
    (problem,) = problems(plan, root)
    assert (problem.where, problem.key, problem.fix) == ("config/models/tiny.yaml", "num_gpus", fix)


def test_as_many_gpus_as_are_visible_will_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    change_yaml(root / "config/models/tiny.yaml", num_gpus=2)
    assert plan(root).models[0].settings.num_gpus == 2


def test_the_gpus_of_a_cluster_are_not_those_of_this_machine(root: Path) -> None:
    change_yaml(root / "config/models/tiny.yaml", num_gpus=8)
    assert plan(root, local=False).models[0].settings.num_gpus == 8


def test_a_run_without_gpus_overrides_the_models(root: Path) -> None:
    change_yaml(root / "config/models/tiny.yaml", num_gpus=8)
    assert plan(root, num_gpus=0).models[0].dtype == "float32"


def test_each_step_is_named_as_it_begins(root: Path) -> None:
    steps: list[tuple[str, int]] = []
    config = {"models": "tiny", "datasets": "sums", "results": str(root / "results")}
    make_plan(config, root, "config/config.yaml", True, lambda what, of: steps.append((what, of)))
    assert steps == [("model tiny", 2), ("data set sums", 2)]


# What is left to do


def work_of(shard: ShardRecord) -> Work:
    return Work(read=shard.read, written=shard.written, longest=shard.longest)


def prior(pair: Pair, shard: ShardRecord) -> float:
    """Seconds for a shard, before anything has been measured."""
    return prior_seconds(pair.model, work_of(shard), shard.requests)


def test_all_shards_are_to_run_at_first_and_should_take_what_the_prior_says(sharded: Path) -> None:
    made = plan(sharded, max_shard_size=8)
    (pair,) = made.pairs
    priors = [prior(pair, shard) for shard in pair.missing]
    load = prior_load_seconds(pair.model)
    assert (pair.requests, pair.scored) == (64, False)
    assert all(shard.left == shard.requests for shard in pair.missing)
    assert pair.seconds == pytest.approx((sum(priors), load))
    assert pair.longest == pytest.approx(max(priors) + load)


def test_shards_that_are_answered_are_not_to_run_and_tell_how_long_the_others_take(sharded: Path) -> None:
    first = plan(sharded, max_shard_size=8)
    done, *others = shards_of(first)
    answer(first, [done], seconds=30.0, load_seconds=5.0, inferred=done.requests, work=work_of(done))
    (pair,) = plan(sharded, max_shard_size=8).pairs
    assert (pair.shards, pair.missing) == (len(others) + 1, others)
    assert pair.requests == 64 - done.requests
    ratio = 30 / prior(pair, done)
    assert pair.seconds == pytest.approx((sum(ratio * prior(pair, shard) for shard in others), 5))


def test_a_shard_of_which_a_part_is_answered_has_the_rest_left(sharded: Path) -> None:
    first = plan(sharded, max_shard_size=8)
    (pair,) = first.pairs
    shard, *others = pair.missing
    known = [wrote(request["id"]) for request in requests_in(first, [shard])[:2]]
    append_partial(predictions_of(first, pair) / f"{shard.name}.jsonl", known)
    (after,) = plan(sharded, max_shard_size=8).pairs
    assert after.missing == [msgspec.structs.replace(shard, left=shard.requests - 2), *others]
    assert after.requests == 62
    assert after.seconds.inference < pair.seconds.inference
    assert after.seconds.load == pair.seconds.load


def test_nothing_is_left_when_all_predictions_are_there(sharded: Path) -> None:
    made = plan(sharded, max_shard_size=8)
    answer(made, shards_of(made))
    (pair,) = plan(sharded, max_shard_size=8).pairs
    assert (pair.shards, pair.missing, pair.requests, pair.seconds, pair.longest) == (
        made.pairs[0].shards, [], 0, (0, 0), 0,
    )  # fmt: skip
    assert not pair.scored


def test_only_what_is_new_in_an_edited_row_is_left(sharded: Path) -> None:
    first = plan(sharded, max_shard_size=8)
    answer(first, shards_of(first))
    rows = many_rows()
    rows[17]["question"] = "What is 17 and 1?"
    write_rows(sharded / "data/sums.jsonl", rows)
    (pair,) = plan(sharded, max_shard_size=8).pairs
    assert [shard.left for shard in pair.missing] == [1]


def test_a_new_division_leaves_nothing_of_what_was_answered_in_another(sharded: Path) -> None:
    first = plan(sharded, max_shard_size=8)
    answer(first, shards_of(first))
    pairs = [plan(sharded, max_shard_size=size).pairs[0] for size in (100, 4, 8)]
    assert [pair.missing for pair in pairs] == [[], [], []]
    one, more, same = (pair.shards for pair in pairs)
    assert one == 1 < same == first.pairs[0].shards < more


def test_a_division_stays_while_it_has_answers_whatever_they_took(sharded: Path) -> None:
    first = plan(sharded, max_shard_size=8)
    done, *others = shards_of(first)
    answer(first, [done], seconds=1e5, work=work_of(done))
    second = plan(sharded, max_shard_size=8)
    assert second.pairs[0].missing == others
    assert second.pairs[0].longest > 1800
    shutil.rmtree(first.results / "predictions")
    assert plan(sharded, max_shard_size=8).pairs[0].shards > first.pairs[0].shards


def test_a_damaged_prediction_file_is_put_aside_and_its_shard_is_to_run_again(sharded: Path) -> None:
    first = plan(sharded, max_shard_size=8)
    answer(first, shards_of(first))
    (pair,) = first.pairs
    damaged = predictions_of(first, pair) / f"{pair.missing[2].name}.jsonl"
    damaged.write_text(damaged.read_text().replace("?", "!"))
    second = plan(sharded, max_shard_size=8)
    assert second.pairs[0].missing == [pair.missing[2]]
    (warning,) = second.warnings
    kept = first.results / "damaged" / damaged.relative_to(first.results / "predictions")
    assert warning.where == str(damaged)
    assert str(kept) in str(warning.fix)
    assert kept.is_file()
    assert not damaged.exists()
    assert plan(sharded, max_shard_size=8).warnings == []


# Targets


TABLES = {"index.html", "leaderboard.html", "leaderboard.csv", "leaderboard.md"}


def test_the_targets_are_the_report_and_what_scoring_has_not_written_yet(root: Path) -> None:
    write_model(root, "other")
    made = plan(root)
    first, second = ([Path(f) for f in score_files(made.results, pair.model, pair.dataset)] for pair in made.pairs)
    report = {str(made.report / table) for table in TABLES}
    assert set(made.targets()) == report | set(map(str, first + second))
    for file in first + second[1:]:
        write_whole(file, "")
    half = plan(root)
    assert [pair.scored for pair in half.pairs] == [True, False]
    assert set(half.targets()) == report | set(map(str, second))
    write_whole(second[0], "")
    assert set(plan(root).targets()) == report


def test_a_pair_that_has_been_scored_needs_no_predictions(sharded: Path) -> None:
    made = plan(sharded, max_shard_size=8)
    for file in score_files(made.results, made.models[0], made.datasets[0]):
        write_whole(Path(file), "")
    (pair,) = plan(sharded, max_shard_size=8).pairs
    assert (pair.scored, pair.shards, pair.missing, pair.requests) == (True, made.pairs[0].shards, [], 0)
    change_yaml(sharded / "config/datasets/sums.yaml", chance=0.5)
    assert not plan(sharded, max_shard_size=8).pairs[0].scored


# The summary


def summary(made: Plan, slots: int | None = None) -> tuple[str, dict[str, list[str]]]:
    """What is printed of a plan: the title, and the words of each model's line."""
    console = Console(file=io.StringIO(), width=200)
    print_summary(made, console, lambda pair: slots)
    title, *lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    words = [line.split() for line in lines if line.strip() and " on " not in line]
    names = {model.name for model in made.models}
    return title.strip(), {first: rest for first, *rest in words if first in names}


def taking(made: Plan, seconds: Seconds, longest: float) -> Plan:
    """The plan if every pair took so long, and each shard were a job."""
    return replace(made, pairs=[replace(pair, seconds=seconds, longest=longest, jobs=None) for pair in made.pairs])


def test_the_summary_tells_what_is_to_run_and_how_long_it_should_take(sharded: Path) -> None:
    write_model(sharded, "large", num_gpus=2)
    made = plan(sharded, local=False, max_shard_size=8)
    shards = made.pairs[0].shards
    slow = taking(made, Seconds(3000.0, 600.0), 900.0)
    title, lines = summary(slow, slots=2)
    assert title == f"2 models x 1 data set -> {2 * shards} shards, {2 * shards} to run, 2 to score, about 70 min"
    count = ["64", str(shards), str(shards), "64", "1", "24.8", "%"]  # 2.80 times the root of 0.5 / 64
    # 3000 s of inference at two places, which load it for 600 s each; no GPU hours on a CPU
    assert lines == {"large": [*count, "2.3", "35", "min"], "tiny": [*count, "35", "min"]}
    title, lines = summary(taking(made, Seconds(300.0, 600.0), 900.0))  # all at once: the longest job of any model
    assert title.endswith("about 15 min")
    assert lines["tiny"] == [*count, "15", "min"]


def test_means_over_data_sets_can_show_what_their_samples_together_can() -> None:
    assert can_show([400]) == can_show([200, 200]) == "9.9 %"
    assert can_show([10, 100_000]) == can_show([40]) == "31.3 %"  # the small one decides


def test_slots_that_a_model_has_no_jobs_for_serve_the_next(sharded: Path) -> None:
    """Two models with 8 shards each: 16 slots take all at once, 8 take one model after the other."""
    write_model(sharded, "large")
    made = taking(plan(sharded, max_shard_size=8), Seconds(8000.0, 0.0), 1000.0)
    made = replace(made, pairs=[replace(pair, missing=pair.missing[:1] * 8) for pair in made.pairs])
    titles = {slots: summary(made, slots)[0] for slots in (64, 16, 8, 4)}
    about = {slots: title.rpartition("about ")[2] for slots, title in titles.items()}
    assert about == {64: "17 min", 16: "17 min", 8: "33 min", 4: "67 min"}


def test_shards_that_a_cluster_puts_into_one_job_load_once_and_wait_for_each_other(sharded: Path) -> None:
    """As many nodes as one likes do not shorten a job of several shards; on this machine each shard is by itself."""
    for local, places in ((True, 8), (False, 1)):
        made = plan(sharded, local=local, max_shard_size=8)
        shards = len(made.pairs[0].missing)
        assert shards > 1
        inference, load = made.pairs[0].seconds
        assert work_seconds(made.pairs, 8) == pytest.approx(inference + load * min(places, shards))


def test_the_summary_counts_what_is_left_only(sharded: Path) -> None:
    made = plan(sharded, max_shard_size=8)
    done, *others = shards_of(made)
    answer(made, [done])
    _, lines = summary(plan(sharded, max_shard_size=8))
    assert lines["tiny"][:4] == ["64", str(len(others) + 1), str(len(others)), str(64 - done.requests)]
    answer(made, others)
    title, lines = summary(plan(sharded, max_shard_size=8))
    assert title == f"1 model x 1 data set -> {len(others) + 1} shards, 0 to run, 1 to score"
    assert lines["tiny"] == ["64", str(len(others) + 1), "0", "0", "1", "24.8", "%", "0", "s"]


@property_test
@given(st.lists(st.lists(st.floats(0, 1e6), max_size=5), min_size=1, max_size=4), st.none() | st.integers(1, 40))
def test_a_model_takes_as_long_as_its_longest_job_and_its_share_of_all_at_least(
    jobs: list[list[float]], slots: int | None
) -> None:
    pairs = [Pair({}, {}, 9, [{}] * len(j), False, Seconds(sum(j), 0.0), max(j, default=0.0)) for j in jobs]
    longest, total = max(pair.longest for pair in pairs), sum(map(sum, jobs))
    assert wall_seconds(pairs, slots) == pytest.approx(max(longest, total / slots if slots else 0.0))
    assert wall_seconds(pairs, slots) <= total * (1 + 1e-9)


# What was staged


def staged_file(made: Plan, folder: Path) -> Path:
    record = made.models[0]
    path = made.results / "staged" / f"{record.full_name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(pretty_json(sealed({"model": str(folder), "tokenizer": str(folder)})))
    return path


def test_what_was_staged_stays_while_its_folder_does(root: Path) -> None:
    made = plan(root)
    staged = staged_file(made, Path(made.models[0].source.path))
    plan(root)
    assert staged.is_file()


def test_a_damaged_note_of_what_was_staged_is_made_anew(root: Path) -> None:
    made = plan(root)
    staged = staged_file(made, Path(made.models[0].source.path))
    staged.write_text(staged.read_text().replace("tokenizer", "tokeniser"))
    plan(root)
    assert not staged.exists()


def test_a_model_whose_files_moved_or_went_is_staged_anew(root: Path, tmp_path: Path) -> None:
    made = plan(root)
    (tmp_path / "old").mkdir()
    for folder in (tmp_path / "gone", tmp_path / "old"):
        staged = staged_file(made, folder)
        plan(root)
        assert not staged.exists()


# Another name


@pytest.mark.parametrize("change", [{}, {"where": "answer|int > 20"}, {"description": "renamed"}])
@pytest.mark.parametrize("size", [4, 8, 16])
def test_a_renamed_data_set_asks_nothing_anew_however_it_is_divided(
    sharded: Path, change: dict[str, Any], size: int
) -> None:
    made = plan(sharded, max_shard_size=8)
    answer(made, shards_of(made))
    old = sharded / "config/datasets/sums.yaml"
    change_yaml(old.rename(old.with_name("additions.yaml")), **change)
    (pair,) = plan(sharded, max_shard_size=size).pairs
    assert (pair.dataset.name, pair.requests, pair.missing) == ("additions", 0, [])


def test_a_data_set_of_other_rows_takes_nothing_over(sharded: Path) -> None:
    made = plan(sharded, max_shard_size=8)
    answer(made, shards_of(made))
    write_dataset(sharded, "others", [row | {"question": "?" + row["question"]} for row in many_rows()])
    pair = plan(sharded, datasets=["others"], max_shard_size=4).pairs[0]
    assert pair.requests == 64


def test_there_are_no_more_shards_than_requests(sharded: Path) -> None:
    made = plan(sharded, max_shard_size=8)
    for folder in ("scores", "samples", "timings"):
        for pair in made.pairs:
            path = next(Path(p) for p in score_files(made.results, pair.model, pair.dataset) if folder in p)
            write_whole(path, "{}")
    assert plan(sharded, max_shard_cost=1e-12).pairs[0].shards == 64


def test_code_that_is_not_allowed_is_told_once_and_beside_rows_that_are_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = {"task": "coded", "dataset_path": "some/data", "test_split": "test", "doc_to_text": "a"}
    file = write_yaml(root / "tasks/coded.yaml", task | {"doc_to_target": "OWN"})
    file.write_text(file.read_text().replace("OWN", "!function own.target"))
    (root / "tasks/own.py").write_text("def target(doc):\n    return doc['a']\n")
    write_rows(root / "data/rows.jsonl", [{"a": "x"}])
    write_yaml(root / "config/lm_eval/data.yaml", {"some/data": "rows.jsonl"})
    settings = {"datasets": ["lm_eval:coded"], "lm_eval_path": "tasks", "data_root": "data"}
    monkeypatch.chdir(root)
    (refused,) = problems(plan, root, **settings)
    assert "lm_eval.coded needs its own Python code (own.target)" in refused.what
    (root / "data/rows.jsonl").unlink()
    assert [problem.key for problem in problems(plan, root, **settings)] == ["lm_eval_code", "data_root"]


def test_generated_code_without_a_sandbox_is_refused_before_anything_is_generated(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_yaml(root / "config/datasets/sums.yaml", metrics=["pass_at_k"])
    monkeypatch.setattr("shardmark.plan.machine_problems.shutil.which", lambda name: None)
    (problem,) = problems(plan, root)
    assert (problem.where, problem.key) == ("config/datasets/sums.yaml", "metrics")
    assert "apt-get install bubblewrap" in problem.fix
    assert plan(root, local=False)


def test_a_package_that_a_metric_needs_is_missed_before_anything_is_generated(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_yaml(root / "config/datasets/sums.yaml", metrics=["exact_match", "bleu"])
    monkeypatch.setattr(METRICS["bleu"], "needs", Needs(packages=("sacrebleu", "no-such-package")))
    (problem,) = problems(plan, root)
    assert (problem.where, problem.key) == ("config/datasets/sums.yaml", "metrics")
    assert (problem.what, problem.fix) == ("bleu needs the package no-such-package", "pip install no-such-package")
    assert plan(root, local=False)


def test_a_task_of_lm_eval_that_runs_generated_code_needs_a_sandbox_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = {"task": "programs", "dataset_path": "some/data", "test_split": "test", "unsafe_code": True}
    task |= {"doc_to_text": "a", "doc_to_target": "b", "process_results": "OWN"}
    file = write_yaml(root / "tasks/programs.yaml", task)
    file.write_text(file.read_text().replace("OWN", "!function own.judge"))
    (root / "tasks/own.py").write_text("import evaluate\n\ndef judge(doc, results):\n    evaluate.load('code_eval')\n")
    write_rows(root / "data/rows.jsonl", [{"a": "x", "b": "y"}])
    write_yaml(root / "config/lm_eval/data.yaml", {"some/data": "rows.jsonl"})
    settings = {"datasets": ["lm_eval:programs"], "lm_eval_path": "tasks", "lm_eval_code": True, "data_root": "data"}
    monkeypatch.chdir(root)
    monkeypatch.setattr("shardmark.plan.machine_problems.shutil.which", lambda name: None)
    (problem,) = problems(plan, root, **settings)
    assert (problem.key, "apt-get install bubblewrap" in problem.fix) == ("unsafe_code", True)
    assert plan(root, local=False, **settings).pairs
