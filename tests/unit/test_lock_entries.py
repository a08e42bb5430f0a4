"""What the lock keeps of models and data sets: the same for everyone, whatever has been downloaded where."""

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
    plan,
    problems,
    write_dataset,
    write_model,
    write_rows,
    write_weights,
    write_yaml,
)
from shardmark.files import file_sha256, pretty_json, sealed, sha256
from shardmark.lock.changes import lock_lines
from shardmark.lock.entries import chat_template
from shardmark.plan import origins
from shardmark.plan.plan import Plan
from shardmark.tasks import rows as row_module

COMMIT = "a" * 40
PLAIN = "{{ messages }}"


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the model `tiny` and the data set `sums`, whose paths are relative, as the working folder."""
    write_model(tmp_path, "tiny", path="weights/tiny")
    write_weights(tmp_path / "weights/tiny")
    write_dataset(tmp_path, "sums")
    change_yaml(tmp_path / "config/datasets/sums.yaml", source={"file": "data/sums.jsonl"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def locked(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / "config/benchmark.lock").read_text()))


def pin(root: Path, *models: str, **datasets: str) -> None:
    """Pin repositories to COMMIT, so that the Hub need not be asked."""
    hub = {"model": dict.fromkeys(models, COMMIT), "dataset": dict.fromkeys(datasets.values(), COMMIT)}
    (root / "config/benchmark.lock").write_text(json.dumps({"version": 2, "hub": hub}))


# Models


def test_a_folder_is_the_hashes_of_its_files_under_the_path_of_the_configuration(root: Path) -> None:
    plan(root)
    names = ("config.json", "model.safetensors", "tokenizer.json")
    files = {name: file_sha256(root / "weights/tiny" / name) for name in names}
    assert locked(root)["models"] == {
        "tiny": {"folder": {"path": "weights/tiny", "files": files, "chat_template": None}}
    }


def test_a_model_of_the_hub_is_its_commit_and_its_tokenizer_and_adapter_are_told_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(root, "org/m@v1", "org/words@main", "org/lora@v2")
    write_model(root, "remote", path="org/m", revision="v1", tokenizer_path="org/words")
    write_model(root, "mixed", path="org/m", revision="v1", tokenizer_path="weights/tiny")
    monkeypatch.setattr("shardmark.plan.model_folders.find_spec", lambda name: name)  # as if peft were installed
    write_model(root, "adapted", path="org/m", revision="v1", adapter="org/lora", adapter_revision="v2")
    plan(root)
    commit = {"repository": "org/m", "revision": "v1", "commit": COMMIT}
    words = {"repository": "org/words", "revision": "main", "commit": COMMIT}
    models = locked(root)["models"]
    assert models["remote"] == {"hub": commit | {"tokenizer": words}}, "nothing is known of its chat template"
    lora = {"repository": "org/lora", "revision": "v2", "commit": COMMIT}
    assert models["adapted"] == {"hub": commit | {"adapter": lora}}
    assert models["mixed"]["hub"] == commit | {
        "tokenizer": {"path": "weights/tiny", "files": models["tiny"]["folder"]["files"]},
        "chat_template": None,
    }


def test_a_gguf_file_is_its_hash_under_its_path_or_its_package(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "a.gguf").write_bytes(b"GGUF")
    (root / "weights_in_a_package.py").write_text(f"def assemble(): return {str(root / 'a.gguf')!r}")
    monkeypatch.syspath_prepend(root)
    write_model(root, "file", path=None, gguf_file="a.gguf")
    write_model(root, "package", path=None, gguf_package="weights_in_a_package")
    plan(root)
    value = file_sha256(root / "a.gguf")
    models = locked(root)["models"]
    assert models["file"] == {"gguf": {"path": "a.gguf", "sha256": value}}
    assert models["package"] == {"gguf": {"package": "weights_in_a_package", "sha256": value}}


def stage(made: Plan, name: str, template: str) -> None:
    """What staging leaves: the tokenizer's folder, and where it is."""
    (record,) = (record for record in made.models if record.name == name)
    folder = made.results / "snapshot" / name
    folder.mkdir(parents=True)
    (folder / "chat_template.jinja").write_text(template)
    file = made.results / "staged" / f"{name}@{record.digest}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(pretty_json(sealed({"model": str(folder), "tokenizer": str(folder)})))


def test_a_chat_template_is_known_from_staging_on_and_everywhere_from_then(root: Path) -> None:
    pin(root, "org/m@main")
    (root / "a.gguf").write_bytes(b"GGUF")
    write_model(root, "remote", path="org/m")
    write_model(root, "file", path=None, gguf_file="a.gguf")
    first = plan(root)
    stage(first, "remote", PLAIN)
    stage(first, "file", PLAIN)
    second = plan(root)
    assert [model.digest for model in second.models] == [model.digest for model in first.models]
    assert list(lock_lines(second.lock)) == ["lock: 2 completed in config/benchmark.lock, which should be committed"]
    text, models = (root / "config/benchmark.lock").read_text(), locked(root)["models"]
    value = sha256({"default": PLAIN})
    assert [models["remote"]["hub"]["chat_template"], models["file"]["gguf"]["chat_template"]] == [value, value]
    shutil.rmtree(root / "results")
    plan(root, frozen=True)
    plan(root)
    assert (root / "config/benchmark.lock").read_text() == text


def test_a_staging_whose_folder_is_gone_tells_no_chat_template(root: Path) -> None:
    pin(root, "org/m@main")
    write_model(root, "remote", path="org/m")
    made = plan(root)
    stage(made, "remote", PLAIN)
    shutil.rmtree(made.results / "snapshot")
    plan(root)
    assert "chat_template" not in locked(root)["models"]["remote"]["hub"]


def test_a_model_of_the_command_line_leaves_its_pin_and_no_record(root: Path) -> None:
    pin(root, "org/m@v2")
    plan(root, hf_path="org/m", revision="v2", num_gpus=0, datasets=["sums"])
    content = locked(root)
    assert (content["models"], list(content["datasets"])) == ({}, ["sums"])
    assert content["hub"] == {"model": {"org/m@v2": COMMIT}}
    write_weights(root / "weights/mine")
    plan(root, hf_path="weights/mine", num_gpus=0, frozen=True)
    (problem,) = problems(plan, root, hf_path="org/m", revision="v3", num_gpus=0, frozen=True)
    assert problem.key == "hub.model.org/m@v3"


# Chat templates


def folder_with(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_jinja", ".jinja").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def settings_with(template: Any) -> str:
    return json.dumps({"chat_template": template, "eos_token": "</s>"})


def test_a_chat_template_is_the_same_wherever_it_stands(tmp_path: Path) -> None:
    folders = [
        folder_with(tmp_path / "a", chat_template_jinja=PLAIN),
        folder_with(tmp_path / "b", tokenizer_config_json=settings_with(PLAIN)),
        folder_with(tmp_path / "c", tokenizer_config_json=settings_with([{"name": "default", "template": PLAIN}])),
        folder_with(tmp_path / "d", chat_template_jinja=PLAIN, tokenizer_config_json=settings_with("other")),
    ]
    assert {chat_template(folder) for folder in folders} == {sha256({"default": PLAIN})}


def test_every_named_template_counts(tmp_path: Path) -> None:
    named = [{"name": "default", "template": PLAIN}, {"name": "tool_use", "template": "tools"}]
    told = folder_with(tmp_path / "a", tokenizer_config_json=settings_with(named))
    files = {"chat_template_jinja": PLAIN, "additional_chat_templates__tool_use_jinja": "tools"}
    assert chat_template(told) == chat_template(folder_with(tmp_path / "b", **files))
    assert chat_template(told) == sha256({"default": PLAIN, "tool_use": "tools"})


def test_an_empty_chat_template_is_one(tmp_path: Path) -> None:
    assert chat_template(folder_with(tmp_path, tokenizer_config_json=settings_with(""))) == sha256({"default": ""})


@pytest.mark.parametrize("settings", ["{}", settings_with(None), settings_with([])])
def test_a_base_model_has_no_chat_template(tmp_path: Path, settings: str) -> None:
    assert chat_template(folder_with(tmp_path, tokenizer_config_json=settings)) is None
    (tmp_path / "tokenizer_config.json").unlink()
    assert chat_template(tmp_path) is None


@pytest.mark.parametrize(
    ("template", "said"), [(5, "TypeError"), ([{"name": "default"}], "KeyError: 'template'"), ([["a"]], "TypeError")]
)
def test_a_chat_template_that_cannot_be_read_is_told(root: Path, template: Any, said: str) -> None:
    (root / "weights/tiny/tokenizer_config.json").write_text(settings_with(template))
    (problem,) = problems(plan, root)
    assert (problem.where, problem.key) == ("config/models/tiny.yaml", "path")
    assert said in problem.what
    assert "{name: ..., template: ...}" in problem.fix


def test_of_a_chat_template_that_cannot_be_read_nothing_else_is_told(root: Path) -> None:
    (root / "weights/tiny/chat_template.jinja").write_bytes(b"\xff")
    (problem,) = problems(plan, root, apply_chat_template=True)
    assert "has a chat template that cannot be read" in problem.what


def test_a_chat_template_that_is_not_text_is_told(root: Path) -> None:
    (root / "weights/tiny/chat_template.jinja").write_bytes(b"\xff")
    (problem,) = problems(plan, root)
    assert "UnicodeDecodeError" in problem.what


# Data sets


def test_a_file_of_ones_own_is_its_hash_and_rows_under_the_path_of_the_configuration(root: Path) -> None:
    plan(root, limit=2)
    record = {"path": "data/sums.jsonl", "sha256": file_sha256(root / "data/sums.jsonl"), "rows": len(ROWS)}
    assert locked(root)["datasets"] == {"sums": {"file": record}}, "all rows, whatever the limit"


def test_hub_and_data_root_stand_side_by_side_and_neither_moves_the_other(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(root, d="org/d@v1")
    source = {"hub": "org/d", "revision": "v1", "config": "en", "local": "deep/copy.jsonl"}
    write_yaml(root / "config/datasets/sums.yaml", GENERATE | {"source": source})
    monkeypatch.setattr(origins, "hub_rows", lambda *_: ROWS[:3])
    for place in ("one", "two"):
        write_rows(root / place / "deep/copy.jsonl", ROWS)
    plan(root)
    plan(root, data_root=str(root / "one"))
    file = {"path": "deep/copy.jsonl", "sha256": file_sha256(root / "one/deep/copy.jsonl"), "rows": len(ROWS)}
    commit = {"repository": "org/d", "revision": "v1", "commit": COMMIT, "config": "en", "split": "test", "rows": 3}
    assert locked(root)["datasets"] == {"sums": {"data_root": file, "hub": commit}}
    for run in ({"data_root": "two"}, {}, {"data_root": "one"}):
        assert plan(root, frozen=True, **run).lock == []
        assert plan(root, **run).lock == []


# Plans


def test_what_moved_is_told_and_a_frozen_lock_refuses_it_all_in_one_list(root: Path) -> None:
    plan(root)
    before = (root / "config/benchmark.lock").read_bytes()
    assert plan(root, frozen=True).lock == []
    write_rows(root / "data/sums.jsonl", ROWS[1:])
    (root / "weights/tiny/config.json").write_text('{"a": 1}')
    write_model(root, "more")
    found = problems(plan, root, frozen=True)
    assert [problem.key for problem in found] == ["datasets.sums.file", "models.more.folder", "models.tiny.folder"]
    assert {problem.where for problem in found} == {"config/benchmark.lock"}
    assert all("snakemake relock" in problem.fix for problem in found)
    assert "5 -> 4 rows" in found[0].what
    assert (root / "config/benchmark.lock").read_bytes() == before
    assert not (root / "results/models/more").exists()
    sums, tiny, new = lock_lines(plan(root).lock)
    assert sums.startswith("lock: data set sums: sha256 ")
    assert sums.endswith(", 5 -> 4 rows")
    assert tiny.startswith("lock: model tiny: config.json ")
    assert new.startswith("lock: 1 new ")
    assert plan(root, frozen=True).lock == []


def test_other_mistakes_are_told_beside_what_a_frozen_lock_refuses(root: Path) -> None:
    plan(root)
    (root / "weights/tiny/config.json").write_text('{"a": 1}')
    write_dataset(root, "empty", [])
    empty, tiny = problems(plan, root, frozen=True)
    assert (empty.what, tiny.key) == ("the file has no rows", "models.tiny.folder")


def test_a_touched_or_copied_project_leaves_the_lock_alone(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(root)
    before = (root / "config/benchmark.lock").read_bytes()
    moved = shutil.copytree(root, tmp_path_factory.mktemp("moved") / "project")
    monkeypatch.chdir(moved)
    for file in moved.rglob("*"):
        os.utime(file, ns=(10**18, 10**18))
    plan(moved, frozen=True)
    assert plan(moved).lock == []
    assert (moved / "config/benchmark.lock").read_bytes() == before


def test_rows_that_change_while_they_are_read_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_rows = row_module.read_rows

    def growing(path: Path, how: Any) -> Any:
        yield from read_rows(path, how)
        with path.open("a") as file:
            file.write(json.dumps(ROWS[0]) + "\n")

    monkeypatch.setattr(row_module, "read_rows", lambda path, how: list(growing(path, how)))
    (problem,) = problems(plan, root)
    assert (problem.where, problem.what) == ("data/sums.jsonl", "changed while it was read")
    assert "wait until it has been written" in problem.fix
    assert not (root / "config/benchmark.lock").exists()
