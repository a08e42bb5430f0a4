"""A file of config/datasets may be a group of others: a run that names it evaluates them, and reports them as one."""

from pathlib import Path
from typing import Any

import pytest

from projects import plan, problems, write_dataset, write_model, write_yaml
from shardmark.files import read_json


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with three data sets, and a group of two of them."""
    write_model(tmp_path, "tiny")
    for name in ("sums_a", "sums_b", "words"):
        write_dataset(tmp_path, name)
    group(tmp_path, "sums", group=["sums_*"])
    return tmp_path


def group(root: Path, name: str, **keys: Any) -> None:
    write_yaml(root / "config/datasets" / f"{name}.yaml", keys)


def test_a_group_brings_its_data_sets_once(root: Path) -> None:
    made = plan(root, datasets=["words", "sums", "sums_b"])
    assert [dataset.name for dataset in made.datasets] == ["words", "sums_b", "sums_a"]
    inputs = read_json(root / "results/plans/reports" / f"{made.report.name}.json")
    assert inputs["groups"] == [
        {"description": "", "mean": "macro", "weights": {}, "name": "sums", "members": ["sums_a", "sums_b"]}
    ]


def test_a_run_without_a_group_has_none(root: Path) -> None:
    made = plan(root, datasets=["sums_*"])
    assert "groups" not in read_json(root / "results/plans/reports" / f"{made.report.name}.json")


def test_weights_of_the_mean_are_of_data_sets_and_groups_that_count_in_it(root: Path) -> None:
    made = plan(root, datasets=["words", "sums"], mean_weights={"sums": 2, "words": 0.5})
    inputs = read_json(root / "results/plans/reports" / f"{made.report.name}.json")
    assert inputs["mean_weights"] == {"sums": 2, "words": 0.5}
    found = problems(plan, root, datasets=["words", "sums"], mean_weights={"sums_a": 2, "word": 1})
    assert [problem.what for problem in found] == [
        "sums_a counts only as a part of its group",
        "the run has no data set word",
    ]


@pytest.mark.parametrize("value", [5, None, {"a": 1}])
def test_a_member_that_is_no_valid_group_is_told_as_a_group(root: Path, value: Any) -> None:
    group(root, "bad", group=value)
    group(root, "sums", group=["sums_*", "bad"])
    assert "bad is a group itself" in [problem.what for problem in problems(plan, root)]


def test_another_mean_is_another_report_and_no_other_score(root: Path) -> None:
    before = plan(root)
    group(root, "sums", group=["sums_*"], mean="micro")
    after = plan(root)
    assert after.report != before.report
    assert after.datasets == before.datasets


@pytest.mark.parametrize(
    ("keys", "key", "said"),
    [
        ({"group": ["sum_a"]}, "group", "no file config/datasets/sum_a.yaml"),
        ({"group": []}, "group", "list should have at least 1 item"),
        ({"group": ["sums_*"], "mean": "weighted"}, "", "mean weighted and weights belong together"),
        (
            {"group": ["sums_*"], "mean": "weighted", "weights": {"sums_a": 1}},
            "weights",
            "weights and group do not name the same data sets",
        ),
        ({"group": ["sums"]}, "group", "sums is a group itself"),
        ({"group": ["words"], "prompt": "x"}, "prompt", "unknown key"),
    ],
)
def test_what_is_wrong_with_a_group_is_told(root: Path, keys: dict[str, Any], key: str, said: str) -> None:
    group(root, "bad", **keys)
    (problem,) = problems(plan, root, datasets=["bad"])
    assert (problem.where, problem.key) == ("config/datasets/bad.yaml", key)
    assert problem.what.startswith(said)
