"""Runs of models or data sets that the command line names have a name of their own."""

import re
from pathlib import Path
from typing import Any

import pytest

from projects import run_config, write_dataset, write_model
from shardmark.config.one_off import LONGEST, one_off_name
from shardmark.plan.plan import make_plan


@pytest.mark.parametrize(
    ("config", "given", "name"),
    [
        ({}, [], "default"),
        ({"run": "mine", "models": ["a"]}, [], "mine"),
        ({"run": "mine", "models": ["a"]}, ["models", "run"], "mine"),
        ({"run": "mine", "models": ["a", "b_*"]}, ["models"], "mine-a-b_all-"),
        ({"models": "[a, 'b']"}, ["models"], "default-a-b-"),
        ({"hf_path": "org/Model-7B/"}, ["hf_path"], "default-Model-7B-"),
        ({"hf_path": "a", "datasets": ["lm_eval:arc", "x"]}, ["hf_path", "datasets"], "default-a-on-arc-x-"),
        ({"datasets": ["x"], "limit": 3}, ["datasets", "limit"], "default-on-x-"),
        ({"datasets": ["x"], "run": "mine"}, ["datasets", "run"], "mine"),
        ({"datasets": [], "limit": 3}, ["datasets"], "default-on-"),
        ({"limit": 3}, ["limit"], "default"),
        ({"hf_path": ""}, ["hf_path"], "default"),
    ],
)
def test_what_the_command_line_chooses_names_a_run(config: dict[str, Any], given: list[str], name: str) -> None:
    found = one_off_name(config, given)
    assert re.fullmatch(f"{name}[0-9a-f]{{6}}" if name.endswith("-") else name, found)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"datasets": ["suite/quick"]}, {"datasets": ["quick"]}),
        ({"datasets": ["lm_eval:a"]}, {"datasets": ["a"]}),
        ({"datasets": []}, {}),
        ({"models": ["a", "b"]}, {"models": ["a-b"]}),
        ({"models": ["a"]}, {"hf_path": "a"}),
        ({"hf_path": "org/a"}, {"hf_path": "other/a"}),
        ({"hf_path": "a", "adapter": "x"}, {"hf_path": "a", "adapter": "y"}),
        ({"run": "r", "models": ["a-b"]}, {"run": "r-a", "models": ["b"]}),
    ],
)
def test_different_runs_have_different_names(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert one_off_name(first, first.keys() - {"run"}) != one_off_name(second, second.keys() - {"run"})


def test_the_same_run_has_one_name_however_it_is_spelt() -> None:
    assert one_off_name({"models": "[a, 'b']"}, ["models"]) == one_off_name({"models": ["a", "b"]}, ["models"])


def test_long_names_are_cut_and_stay_apart() -> None:
    names = {one_off_name({"models": [f"m{n}" for n in range(count)]}, ["models"]) for count in (50, 51)}
    assert len(names) == 2
    assert all(len(name) <= LONGEST + 7 for name in names)


def test_the_report_of_such_a_run_is_no_other_runs(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny")
    write_dataset(tmp_path, "sums")
    config = run_config(tmp_path, models=["tiny"])
    own = make_plan(config, tmp_path, "config/config.yaml", True)
    for key in ("models", "datasets", "limit"):
        given = config | {"datasets": "sums", "limit": 100}
        one_off = make_plan(given, tmp_path, "config/config.yaml", True, command_line={key})
        name = one_off_name(given, {key})
        assert (own.published.name, one_off.published.name) == ("default", name)
        assert (name == "default") == (key == "limit")
        assert [each.digest for each in own.datasets] == [each.digest for each in one_off.datasets]
