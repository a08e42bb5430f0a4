"""Answers that do not fit a model's window are refused by the plan."""

import json
from pathlib import Path
from typing import Any

import pytest

from projects import GENERATE, plan, problems, write_dataset, write_model, write_weights


def project(root: Path, new_tokens: int, config: dict[str, Any] | None = None, **model: Any) -> Path:
    """A model, and a data set that asks it for so many new tokens."""
    weights = write_weights(root / "weights")
    (weights / "config.json").write_text(json.dumps(config or {"max_position_embeddings": 64}))
    write_model(root, "narrow", path=str(weights), **model)
    write_dataset(root, "long", **GENERATE | {"generation": {"max_new_tokens": new_tokens}})
    return root


REFUSED: list[dict[str, Any]] = [
    {},
    {"config": {"n_positions": 64}},
    {"config": {"max_position_embeddings": 9, "text_config": {"max_position_embeddings": 64}}},
    {"config": {"max_position_embeddings": 99}, "max_seq_len": 64},
    {"max_out_len": 64, "new_tokens": 99},
]


@pytest.mark.parametrize("case", REFUSED)
def test_new_tokens_that_fill_the_window_are_refused(tmp_path: Path, case: dict[str, Any]) -> None:
    [problem] = problems(plan, project(tmp_path, **{"new_tokens": 64} | case))
    assert "window of model narrow is 64 tokens" in problem.what
    assert "(long: 64)" in problem.what
    assert (problem.where, problem.key) == ("config/models/narrow.yaml", "max_out_len")


@pytest.mark.parametrize(
    ("said", "key"), [({"reasoning_tokens": 60}, "reasoning_tokens"), ({"reasoning": {"budget": 60}}, "reasoning")]
)
def test_thoughts_need_room_too(tmp_path: Path, said: dict[str, Any], key: str) -> None:
    tags = {"reasoning_tags": ["<think>", "</think>"]}
    [problem] = problems(plan, project(tmp_path, new_tokens=4, **said, **tags))
    assert "(long: 64)" in problem.what
    assert problem.key == key
    assert plan(project(tmp_path, new_tokens=3, **said, **tags)).pairs


def test_a_long_answer_needs_room_whatever_the_data_set_asks_for(tmp_path: Path) -> None:
    long = {"max_out_len": 64, "long_answers": True}
    [problem] = problems(plan, project(tmp_path, new_tokens=4, **long))
    assert "(long: 64)" in problem.what
    assert plan(project(tmp_path, new_tokens=4, **long | {"max_out_len": 63})).pairs
    [problem] = problems(plan, project(tmp_path, new_tokens=4, long_answers=True))
    assert "long_answers has no effect" in problem.what


FITTING: list[dict[str, Any]] = [
    {"new_tokens": 63},
    {"max_out_len": 63},
    {"max_seq_len": 65},
    {"config": {"hidden_size": 4}},
    {"model_kwargs": {"max_position_embeddings": 128}},
]


@pytest.mark.parametrize("case", FITTING)
def test_what_leaves_room_or_is_not_known_is_planned(tmp_path: Path, case: dict[str, Any]) -> None:
    assert plan(project(tmp_path, **{"new_tokens": 64} | case)).pairs
