"""Sources of examples, and chats, in the plan: what they depend on is known, what is missing is told before any job."""

import json
from pathlib import Path
from typing import Any

import pytest

from projects import GENERATE, change_yaml, plan, problems, write_dataset, write_model, write_rows
from shardmark.files import read_json, read_jsonl
from shardmark.tools.verify import checks_for, verify

SHOTS = [{"question": "What is 9 + 1?", "answer": "10"}, {"question": "What is 8 + 1?", "answer": "9"}]
CHAT = {"kind": "generate", "messages": [{"role": "user", "content": "{{ question }}"}], "target": "answer"}
CHAT |= {"metrics": ["exact_match"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose data set has its examples in a file of its own."""
    write_model(tmp_path, "tiny")
    shots = write_rows(tmp_path / "data/shots.jsonl", SHOTS)
    write_dataset(tmp_path, "sums", **GENERATE, few_shot={"count": 1, "source": {"file": str(shots)}})
    return tmp_path


def prompts(root: Path) -> set[str]:
    files = (root / "results/requests/sums").glob("*.jsonl")
    return {line["prompt"] for file in files for line in read_jsonl(file)}


def test_examples_of_a_file_stand_before_every_question(root: Path) -> None:
    plan(root)
    assert len(prompts(root)) == 5
    assert all(prompt.startswith("Q: What is 9 + 1?\nA: 10\n\nQ: What is") for prompt in prompts(root))


def test_an_edited_example_is_noticed_and_locked(root: Path) -> None:
    before = plan(root)
    record = read_json(root / "config/benchmark.lock")["datasets"]["sums"]["file"]
    assert record["few_shot"]["path"] == str(root / "data/shots.jsonl")
    write_rows(root / "data/shots.jsonl", [SHOTS[0] | {"answer": "ten"}])
    after = plan(root)
    assert after.datasets[0].digest != before.datasets[0].digest
    assert any("ten" in prompt for prompt in prompts(root))
    assert [change.key[1] for change in after.lock] == ["sums"]
    (refused,) = problems(plan, root, frozen=True) if write_rows(root / "data/shots.jsonl", SHOTS) else ()
    assert "the lock is frozen" in refused.what


def test_the_file_of_the_examples_is_verified(root: Path) -> None:
    plan(root)
    assert not list(verify(checks_for(root / "results", root), root))
    write_rows(root / "data/shots.jsonl", SHOTS[:1])
    (damage,) = verify(checks_for(root / "results", root), root)
    assert damage.problem.where == str(root / "data/shots.jsonl")


def test_a_missing_file_of_examples_is_told(root: Path) -> None:
    (root / "data/shots.jsonl").unlink()
    (problem,) = problems(plan, root)
    assert (problem.key, problem.what) == ("few_shot.source.file", f"no file {root}/data/shots.jsonl")


def test_a_model_that_cannot_chat_is_told_before_any_job(root: Path) -> None:
    write_dataset(root, "sums", **CHAT)
    (problem,) = problems(plan, root)
    assert (problem.where, problem.key) == ("config/models/tiny.yaml", "meta_template")
    assert problem.what == "data set sums asks in chats, but model tiny has neither a chat template nor a meta_template"
    change_yaml(root / "config/models/tiny.yaml", meta_template={"round": {"user": {}, "assistant": {}}})
    (record,) = plan(root).datasets
    assert record.is_chat


def test_a_tokenizer_with_a_chat_template_can_chat(root: Path) -> None:
    write_dataset(root, "sums", **CHAT)
    settings: dict[str, Any] = {"chat_template": "{{ messages }}"}
    (root / "weights/tiny/tokenizer_config.json").write_text(json.dumps(settings))
    assert plan(root).datasets[0].samples == 5
    files = (root / "results/requests/sums").glob("*.jsonl")
    asked = [line["messages"] for file in files for line in read_jsonl(file)]
    assert [{"role": "user", "content": "What is 0 + 1?"}] in asked
