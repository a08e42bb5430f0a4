"""What Shardmark does not do is refused by its name, not as an unknown key."""

from typing import Any

import pytest

from projects import GENERATE
from shardmark.config.dataset import DatasetConfig
from shardmark.config.misplaced_keys import checked, checked_model
from shardmark.errors import Problem

DATASET = GENERATE | {"source": {"file": "rows.jsonl"}}


def of_dataset(**changes: Any) -> list[Problem]:
    found: list[Problem] = []
    assert checked(DatasetConfig, DATASET | changes, "f.yaml", found) is None
    return found


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("image_column", "images"),
        ("audio", "with audio"),
        ("tools", "tools"),
        ("max_turns", "turns"),
    ],
)
def test_keys_of_a_data_set(key: str, what: str) -> None:
    (problem,) = of_dataset(**{key: ["x"]})
    assert (problem.where, problem.key) == ("f.yaml", key)
    assert what in problem.what


def test_parts_of_messages() -> None:
    text, image = {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": "{{ picture }}"}
    messages = [{"role": "user", "content": [text, image]}]
    (problem,) = of_dataset(prompt=None, messages=messages)
    assert problem.key == "messages.0.content.1.type"
    assert "images or videos are beyond what Shardmark evaluates" in problem.what


@pytest.mark.parametrize("changes", [{"num_nodes": 2}, {"slurm": {"nodes": 2}}])
def test_models_over_several_nodes(changes: dict[str, Any]) -> None:
    found: list[Problem] = []
    assert checked_model({"path": "org/m", **changes}, "m.yaml", found) is None
    assert "spread over several nodes" in found[0].what


def test_other_keys_are_unknown_as_before() -> None:
    (problem,) = of_dataset(promt="x")
    assert problem.what == "unknown key"
