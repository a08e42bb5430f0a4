"""The plan: all mistakes at once, names that follow from content, and nothing made twice."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from projects import (
    GENERATE,
    ROWS,
    change_yaml,
    files_of,
    plan,
    problems,
    safetensors_file,
    write_dataset,
    write_model,
    write_rows,
    write_weights,
    write_yaml,
)
from shardmark.files import read_json, read_jsonl
from shardmark.plan import Plan, make_plan, model_file, outlook, report_inputs, score_files
from shardmark.plan.cost import load_seconds, predictions_folder, prior_seconds
from shardmark.plan.predictions import write_predictions
from shardmark.tasks import request_id

CHOICE: dict[str, Any] = {"kind": "choice", "prompt": "{{ question }}", "choices": "options", "target": "label"}
CHOICE |= {"metrics": ["accuracy"]}


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


def many_rows(count: int = 64) -> list[dict[str, str]]:
    return [{"name": f"n{n}", "question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(count)]


def shard_names(made: Plan, dataset: int = 0) -> set[str]:
    return {shard["name"] for shard in made.datasets[dataset]["shards"]}


def requests_of(made: Plan) -> dict[str, Any]:
    """All requests on disk by id."""
    folder = made.results / "requests" / made.datasets[0]["name"]
    lines = [line for shard in made.datasets[0]["shards"] for line in read_jsonl(folder / f"{shard['name']}.jsonl")]
    return {line["id"]: {key: value for key, value in line.items() if key != "id"} for line in lines}


def task_of(made: Plan) -> list[Any]:
    record = made.datasets[0]
    return list(read_jsonl(made.results / "tasks" / f"{record['name']}@{record['digest']}.jsonl"))


# What is written


def test_every_request_is_in_a_file_under_its_id(sharded: Path) -> None:
    made = plan(sharded, max_shard_size=8)
    found = requests_of(made)
    assert len(made.datasets[0]["shards"]) > 3
    assert len(found) == sum(shard["requests"] for shard in made.datasets[0]["shards"]) == 64
    assert all(request_id(request) == key for key, request in found.items())
    assert {request["prompt"] for request in found.values()} == {f"Q: {row['question']}\nA:" for row in many_rows()}


def test_the_task_file_says_what_scoring_needs(root: Path) -> None:
    made = plan(root)
    header, *lines = task_of(made)
    assert header["shards"] == [shard["name"] for shard in made.datasets[0]["shards"]]
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
    assert [f"{model['name']}/{dataset['name']}" for model, dataset in made.pairs()] == [
        "other/sums",
        "other/words",
        "tiny/sums",
        "tiny/words",
    ]
    for model in made.models:
        assert read_json(model_file(made.results, f"{model['name']}@{model['digest']}")) == model
    inputs = read_json(report_inputs(made.results, made.report.name))
    assert list(zip(inputs["scores"], inputs["samples"], strict=True)) == [
        score_files(made.results, *pair) for pair in made.pairs()
    ]
    assert made.published == root / "results/reports/test"
    assert made.report.parent == made.published.parent


def test_any_text_in_rows_is_planned(root: Path) -> None:
    rows = [{"question": text, "answer": "\ud800"} for text in ("\u2028", "\x85\r\n", "\udfff", "😀", "\x00")]
    write_dataset(root, "sums", rows)
    made = plan(root)
    assert {request["prompt"] for request in requests_of(made).values()} == {f"Q: {r['question']}\nA:" for r in rows}
    assert [line["target"] for line in task_of(made)[1:]] == [["\ud800"]] * len(rows)


def test_the_limit_is_part_of_what_is_asked(root: Path) -> None:
    assert plan(root, limit=2).datasets[0]["samples"] == 2
    assert plan(root).datasets[0]["samples"] == len(ROWS)


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
    memo.write_text(memo.read_text().replace('"samples": 5', '"samples": 123'))
    assert plan(root).datasets[0]["samples"] == 123


@pytest.mark.parametrize("part", ["requests", "tasks", "plans", "models", "."])
def test_what_is_deleted_is_made_again_just_as_it_was(sharded: Path, part: str) -> None:
    first = plan(sharded, max_shard_size=8)
    before = {name: content for name, (_, content) in files_of(sharded).items()}
    shutil.rmtree(sharded / "results" / part)
    assert plan(sharded, max_shard_size=8) == first
    assert {name: content for name, (_, content) in files_of(sharded).items()} == before


def test_a_single_request_file_that_is_deleted_is_made_again(sharded: Path) -> None:
    made = plan(sharded, max_shard_size=8)
    before = files_of(sharded)
    lost = made.results / "requests/sums" / f"{min(shard_names(made))}.jsonl"
    lost.unlink()
    plan(sharded, max_shard_size=8)
    after = files_of(sharded)
    assert [name for name in before if after[name] != before[name]] == [str(lost.relative_to(sharded))]  # its time
    assert {name: content for name, (_, content) in after.items()} == {n: c for n, (_, c) in before.items()}


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
    assert second.datasets[0]["digest"] == first.datasets[0]["digest"]
    assert second.models[0]["digest"] == first.models[0]["digest"]


def test_the_order_of_keys_and_of_rows_does_not_change_a_shard(root: Path) -> None:
    first = plan(root)
    path = root / "config/datasets/sums.yaml"
    write_yaml(path, dict(reversed(({"source": {"file": str(root / "data/sums.jsonl")}} | GENERATE).items())))
    assert plan(root).datasets == first.datasets
    write_rows(root / "data/sums.jsonl", reversed(ROWS))
    assert shard_names(plan(root)) == shard_names(first)


# Only what depends on a change is new


def test_one_edited_row_changes_one_shard(sharded: Path) -> None:
    first = plan(sharded, max_shard_size=8)
    rows = many_rows()
    rows[17]["question"] = "What is 17 and 1?"
    write_rows(sharded / "data/sums.jsonl", rows)
    second = plan(sharded, max_shard_size=8)
    assert len(shard_names(first) - shard_names(second)) == len(shard_names(second) - shard_names(first)) == 1
    assert second.datasets[0]["digest"] != first.datasets[0]["digest"]


def test_an_answer_that_was_wrong_is_corrected_without_a_new_shard(sharded: Path) -> None:
    first = plan(sharded)
    write_rows(sharded / "data/sums.jsonl", [row | {"answer": "0"} for row in many_rows()])
    second = plan(sharded)
    assert shard_names(second) == shard_names(first)
    assert second.datasets[0]["digest"] != first.datasets[0]["digest"]
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
    ],
    ids=str,
)
def test_what_only_judges_changes_the_digest_but_no_shard(sharded: Path, change: dict[str, Any]) -> None:
    first = plan(sharded, max_shard_size=8)
    change_yaml(sharded / "config/datasets/sums.yaml", **change)
    second = plan(sharded, max_shard_size=8)
    assert shard_names(second) == shard_names(first)
    assert second.datasets[0]["digest"] != first.datasets[0]["digest"]


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
    assert second.datasets[0]["digest"] != first.datasets[0]["digest"]


def test_a_description_changes_neither_shards_nor_digest_but_is_told(root: Path) -> None:
    first = plan(root)
    for description in ("one", "two", "one"):
        change_yaml(root / "config/datasets/sums.yaml", description=description)
        made = plan(root)
        assert (made.datasets[0]["digest"], shard_names(made)) == (first.datasets[0]["digest"], shard_names(first))
        assert task_of(made)[0]["settings"]["description"] == description


def test_the_size_of_shards_changes_no_score_and_the_task_file_follows(sharded: Path) -> None:
    digests = set()
    for size in (8, 100, 8):
        made = plan(sharded, max_shard_size=size)
        assert set(task_of(made)[0]["shards"]) == shard_names(made)
        assert (len(shard_names(made)) == 1) == (size == 100)
        digests.add(made.datasets[0]["digest"])
    assert len(digests) == 1


def test_a_renamed_data_set_has_a_digest_that_stays(root: Path) -> None:
    first = plan(root)
    (root / "config/datasets/sums.yaml").rename(root / "config/datasets/additions.yaml")
    second = plan(root)
    assert second.datasets[0]["name"] == "additions"
    assert second.datasets[0]["digest"] == first.datasets[0]["digest"]
    assert shard_names(second) == shard_names(first)


def test_a_renamed_model_has_a_digest_that_stays(root: Path) -> None:
    first = plan(root)
    (root / "config/models/tiny.yaml").rename(root / "config/models/small.yaml")
    second = plan(root)
    assert second.models[0]["name"] == "small"
    assert second.models[0]["digest"] == first.models[0]["digest"]


def test_a_changed_model_leaves_the_data_sets_alone(root: Path) -> None:
    first = plan(root)
    (root / "weights/tiny/model.safetensors").write_bytes(safetensors_file(b"others"))
    second = plan(root)
    assert second.models[0]["digest"] != first.models[0]["digest"]
    assert second.datasets == first.datasets
    assert second.report != first.report


def test_a_model_may_come_from_the_command_line(root: Path) -> None:
    weights = write_weights(root / "weights/one-off")
    spelt = "device_map='auto' trust_remote_code=True"
    (model,) = plan(root, hf_path=str(weights), model_kwargs=spelt, num_gpus=0, batch_size=2, dtype="float16").models
    settings = model["settings"]
    assert (model["name"], model["file"], model["dtype"]) == ("one-off", "--config hf_path", "float16")
    assert (settings["trust_remote_code"], settings["model_kwargs"]) == (True, {"device_map": "auto"})
    assert (settings["num_gpus"], settings["batch_size"]) == (0, 2)


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
    write_dataset(root, "label", [{"question": "?", "options": ["a"], "label": 4}], **CHOICE)
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
        "config/models/double.yaml:1 |  | not valid YAML: key 'path' stands twice | mend the file",
        "config/models/nowhere.yaml | path | no folder ./no/such/folder | correct the path",
        "config/models/greedy.yaml | num_gpus | model greedy wants 3 GPUs, this machine offers 0 | --config num_gpus=0",
        "config/datasets/column.yaml | prompt | row 0, 1, 2 and 2 more: no column 'questoin' | did you mean 'questi",
        "config/datasets/syntax.yaml | prompt | not a valid template: ",
        "config/datasets/one_row.yaml | prompt | row 5: UndefinedError: 'int object' has no attribute 'upper'",
        "config/datasets/label.yaml | target | row 0: label 4 is outside the 1 choices | count choices from 0",
        "data/empty.jsonl |  | the file has no rows | put one JSON object on each line",
        "data/broken.jsonl:2 |  | not valid JSON: ",
        "config/datasets/ids.yaml | id_column | the id 'n0' stands twice (5 ids do) | name a column that is unique",
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
    assert plan(root).datasets[0]["samples"] == len(ROWS)


@pytest.mark.parametrize(
    ("visible", "wanted", "fix"),
    [
        ("", 1, "--config num_gpus=0 runs on the CPU"),
        ("0,1", 3, "num_gpus: 2 at most, or use a cluster's profile"),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", 2, "num_gpus: 1 at most, or use a cluster's profile"),
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
    assert plan(root).models[0]["settings"]["num_gpus"] == 2


def test_the_gpus_of_a_cluster_are_not_those_of_this_machine(root: Path) -> None:
    change_yaml(root / "config/models/tiny.yaml", num_gpus=8)
    assert plan(root, local=False).models[0]["settings"]["num_gpus"] == 8


def test_a_run_without_gpus_overrides_the_models(root: Path) -> None:
    change_yaml(root / "config/models/tiny.yaml", num_gpus=8)
    assert plan(root, num_gpus=0).models[0]["dtype"] == "float32"


def test_each_step_is_named_as_it_begins(root: Path) -> None:
    steps: list[tuple[str, int]] = []
    config = {"models": "tiny", "datasets": "sums", "results": str(root / "results")}
    make_plan(config, root, "config/config.yaml", True, lambda what, of: steps.append((what, of)))
    assert steps == [("model tiny", 2), ("data set sums", 2)]


# What is left to do


def test_the_outlook_counts_shards_without_predictions(sharded: Path) -> None:
    made = plan(sharded, max_shard_size=8)
    model, shards = made.models[0], made.datasets[0]["shards"]
    (before,) = outlook(made)
    assert (before.model, before.dataset, before.shards, before.to_run) == ("tiny", "sums", len(shards), len(shards))
    assert before.seconds == pytest.approx(sum(load_seconds(model) + prior_seconds(model, s) for s in shards))
    folder = predictions_folder(made.results, model) / "sums"
    write_predictions(folder / f"{shards[0]['name']}.jsonl", [], {"seconds": 30.0, "inferred": 3})
    (after,) = outlook(made)
    left = sum(shard["requests"] for shard in shards[1:])
    assert after.to_run == len(shards) - 1
    assert after.seconds == pytest.approx(after.to_run * load_seconds(model) + 10 * left)


def test_nothing_is_left_when_all_predictions_are_there(root: Path) -> None:
    made = plan(root)
    for shard in made.datasets[0]["shards"]:
        path = predictions_folder(made.results, made.models[0]) / "sums" / f"{shard['name']}.jsonl"
        write_predictions(path, [], {"seconds": 0.0, "inferred": 0})
    (row,) = outlook(made)
    assert (row.to_run, row.seconds) == (0, 0)


def test_a_prediction_file_that_is_damaged_does_not_stop_the_plan(root: Path) -> None:
    made = plan(root)
    (shard,) = made.datasets[0]["shards"]
    path = predictions_folder(made.results, made.models[0]) / "sums" / f"{shard['name']}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"id": "cut off"}))
    assert outlook(made)[0].to_run == 0  # scoring refuses it by name


# What was staged


def staged_file(made: Plan, folder: Path) -> Path:
    record = made.models[0]
    path = made.results / "staged" / f"{record['name']}@{record['digest']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"model": str(folder), "tokenizer": str(folder)}))
    return path


def test_what_was_staged_stays_while_its_folder_does(root: Path) -> None:
    made = plan(root)
    staged = staged_file(made, Path(made.models[0]["source"]["path"]))
    plan(root)
    assert staged.is_file()


def test_a_model_whose_files_moved_or_went_is_staged_anew(root: Path, tmp_path: Path) -> None:
    made = plan(root)
    (tmp_path / "old").mkdir()
    for folder in (tmp_path / "gone", tmp_path / "old"):
        staged = staged_file(made, folder)
        plan(root)
        assert not staged.exists()
