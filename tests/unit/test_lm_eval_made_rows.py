"""Tasks of lm-eval that make their rows by a function: they load, and the lock has what the function returned."""

import json
from pathlib import Path
from typing import Any

import pytest

from projects import plan, problems, write_dataset, write_model, write_yaml
from shardmark.files import file_sha256

CODE = """
import random
from datasets import Dataset


def needles(**given):
    lengths, tokenizer = given["max_seq_lengths"], given["tokenizer"]
    rows = [{"input": f"{tokenizer} {length} {random.randint(0, 999)}", "outputs": ["1"]} for length in lengths]
    return {"test": Dataset.from_list(rows), "train": rows[:1]}


def broken(**given):
    raise AssertionError("No tokenizer or pretrained provided.")
"""
TASK = {
    "custom_dataset": "!function needle_code.needles",
    "output_type": "generate_until",
    "test_split": "test",
    "doc_to_text": "{{input}}",
    "doc_to_target": "{{outputs[0]}}",
    "metadata": {"version": 1.0, "tokenizer": "none"},
}
METADATA = {"tokenizer": "org/m", "max_seq_lengths": [4, 8]}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a task that makes its rows."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    write_model(tmp_path, "m")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/needle_code.py").write_text(CODE)
    task(tmp_path, "needles")
    return tmp_path


def task(root: Path, name: str, **changes: Any) -> None:
    file = write_yaml(root / f"tasks/{name}.yaml", TASK | {"task": name} | changes)
    file.write_text(file.read_text().replace("'!function needle_code.needles'", "!function needle_code.needles"))
    file.write_text(file.read_text().replace("'!function needle_code.broken'", "!function needle_code.broken"))


def run(root: Path, **config: Any) -> Any:
    usual = {"datasets": ["lm_eval:needles"], "lm_eval_path": str(root / "tasks"), "lm_eval_code": True}
    return plan(root, **(usual | {"lm_eval_metadata": METADATA} | config))


def asked(root: Path) -> list[str]:
    """The prompts of the newest plan."""
    files = (root / "results/requests/lm_eval.needles").glob("*.jsonl")
    return sorted(json.loads(line)["prompt"] for file in files for line in file.read_text().splitlines())


def locked(root: Path) -> Any:
    return json.loads((root / "config/benchmark.lock").read_text())["datasets"]["lm_eval.needles"]


def kept(root: Path) -> list[Path]:
    return sorted((root / "hub/shardmark/rows").glob("*.jsonl"))


def test_a_task_that_makes_its_rows_is_asked_as_lm_eval_seeds_it(root: Path) -> None:
    run(root)
    assert asked(root) == ["org/m 4 864", "org/m 8 394"], "random.seed(0), before anything else"


def test_the_lock_has_what_the_function_returned(root: Path) -> None:
    run(root)
    (file,) = kept(root)
    record = {"task": "needles", "lm_eval": None, "files": {"needles:test": file_sha256(file)}}
    assert locked(root) == {"made": record}
    before = file.stat().st_mtime_ns
    run(root, frozen=True)
    assert file.stat().st_mtime_ns == before, "what is kept is not made again"
    file.unlink()
    run(root, frozen=True)
    assert kept(root) == [file], "the same rows again"


def test_other_rows_under_the_same_lock_are_refused(root: Path) -> None:
    run(root)
    code = root / "tasks/needle_code.py"
    code.write_text(code.read_text().replace("999", "99"))
    (problem,) = problems(run, root, frozen=True)
    assert problem.key.startswith("datasets.lm_eval.needles")
    assert problem.what.startswith("needles:test ")
    run(root)
    assert len(kept(root)) == 2


def test_metadata_of_a_file_and_of_the_run_reach_the_function(root: Path) -> None:
    write_yaml(root / "config/datasets/long.yaml", {"lm_eval": "needles", "metadata": METADATA | {"tokenizer": "a"}})
    run(root, datasets=["long"], lm_eval_metadata={"tokenizer": "b"})
    (file,) = kept(root)
    assert [json.loads(line)["input"][:3] for line in file.read_text().splitlines()] == ["b 4", "b 8"]


@pytest.mark.parametrize(
    ("changes", "config", "said"),
    [
        ({"custom_dataset": "!function needle_code.broken"}, {}, "AssertionError: No tokenizer or pretrained"),
        ({"test_split": "test2"}, {}, "reads the split test2, but its function generates test, train"),
        ({"custom_dataset": "needles"}, {}, "which is not a function"),
        ({}, {"lm_eval_metadata": {}}, "KeyError: 'max_seq_lengths'"),
        ({}, {"lm_eval_code": False}, "needs its own Python code"),
    ],
)
def test_what_goes_wrong_is_told(root: Path, changes: dict[str, Any], config: dict[str, Any], said: str) -> None:
    task(root, "needles", **changes)
    assert any(said in problem.what for problem in problems(run, root, **config))


def test_metadata_without_a_task_of_lm_eval_is_refused(root: Path) -> None:
    write_dataset(root, "d")
    found = problems(plan, root, datasets=["d"], lm_eval_metadata=METADATA)
    assert [problem.key for problem in found] == ["lm_eval_metadata"]
