"""A file says how it differs from another; what is wrong is told where it stands."""

from pathlib import Path
from typing import Any

import pytest

from projects import GENERATE, plan, problems, write_dataset, write_model, write_yaml
from shardmark.config import Benchmark, load
from shardmark.config.include import merged
from shardmark.errors import Problem


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a model and the data set `sums`."""
    write_model(tmp_path, "tiny")
    few_shot = {"examples": [{"question": "0 + 1?", "answer": "1"}], "answer": " {{ answer }}", "separator": "\n"}
    write_dataset(tmp_path, "sums", **GENERATE, few_shot=few_shot)
    return tmp_path


def variant(root: Path, name: str, **keys: Any) -> Path:
    return write_yaml(root / "config/datasets" / f"{name}.yaml", keys)


def loaded(root: Path, *datasets: str) -> tuple[Benchmark, list[Problem]]:
    found: list[Problem] = []
    return load({"models": ["tiny"], "datasets": list(datasets)}, root, "config/config.yaml", found), found


def only(root: Path, *datasets: str) -> Problem:
    (problem,) = loaded(root, *datasets)[1]
    return problem


def test_a_variant_says_only_what_differs(root: Path) -> None:
    variant(root, "terse", include="sums", few_shot={"separator": " "}, description="terse")
    benchmark, found = loaded(root, "sums", "terse")
    assert found == []
    base, terse = (dataset.settings.model_dump() for dataset in benchmark.datasets)
    assert terse == base | {"few_shot": base["few_shot"] | {"separator": " "}, "description": "terse"}


@pytest.mark.parametrize(
    ("below", "above", "result"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1, "c": {"d": 2}}}, {"a": {"c": {"e": 3}}}, {"a": {"b": 1, "c": {"d": 2, "e": 3}}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": 1}, {"a": 1}),
        ({"a": {"b": 1}, "c": 1}, {"a": None}, {"c": 1}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
    ],
)
def test_mappings_merge_lists_are_replaced_and_null_removes(below: Any, above: Any, result: Any) -> None:
    assert merged(below, above) == result


def test_of_several_files_the_later_one_counts_and_this_one_most(root: Path) -> None:
    variant(root, "_one", prompt="1 {{ question }}", chance=0.1, version=1)
    variant(root, "_two", prompt="2 {{ question }}", chance=0.2)
    variant(root, "all", include=["sums", "_one", "_two"], chance=0.3)
    settings = loaded(root, "all")[0].datasets[0].settings
    assert (settings.prompt, settings.chance, settings.version) == ("2 {{ question }}", 0.3, 1)


def test_a_file_in_a_subfolder_is_included_by_name_or_path(root: Path) -> None:
    variant(root, "deep/base", include="../sums.yaml", version=7)
    variant(root, "a", include="deep/base.yaml")
    variant(root, "b", include="base")
    assert [dataset.settings.version for dataset in loaded(root, "a", "b")[0].datasets] == [7, 7]


def test_a_file_with_an_underscore_is_only_there_to_be_included(root: Path) -> None:
    variant(root, "_part", version=1)
    benchmark, found = loaded(root, "*")
    assert ([dataset.name for dataset in benchmark.datasets], found) == (["sums"], [])
    assert "no file config/datasets/_part.yaml" in only(root, "_part").what


def test_a_model_may_include_another(root: Path) -> None:
    write_yaml(root / "config/models/half.yaml", {"include": "tiny", "dtype": "bfloat16"})
    found: list[Problem] = []
    benchmark = load({"models": ["half", "tiny"], "datasets": ["sums"]}, root, "c.yaml", found)
    half, tiny = (model.settings for model in benchmark.models)
    assert (found, half) == ([], tiny.model_copy(update={"dtype": "bfloat16"}))


def test_a_circle_is_named_in_the_order_of_its_files(root: Path) -> None:
    variant(root, "a", include="b")
    variant(root, "b", include="c")
    variant(root, "c", include="a")
    problem = only(root, "a")
    assert problem.key == "include"
    assert "a.yaml -> config/datasets/b.yaml -> config/datasets/c.yaml -> config/datasets/a.yaml" in problem.what


def test_a_missing_file_is_told_with_the_nearest_name(root: Path) -> None:
    variant(root, "a", include="sum")
    problem = only(root, "a")
    assert (problem.where, problem.key, problem.what) == (
        "config/datasets/a.yaml", "include", "there is no file 'sum' to include",
    )  # fmt: skip
    assert problem.fix == "did you mean 'sums'?"


def test_problems_name_the_line_and_the_file_that_the_key_comes_from(root: Path) -> None:
    (root / "config/datasets/sums.yaml").write_text(
        f"source:\n  file: {root}/data/sums.jsonl\nkind: generate\n"
        "prompt: '{{ questoin }}'\ntarget: answer\nmetrics: [exact_match]\n"
    )
    variant(root, "terse", include="sums", description="terse")
    lines = {(problem.where, problem.key, problem.line) for problem in problems(plan, root)}
    assert lines == {
        ("config/datasets/sums.yaml", "prompt", "config/datasets/sums.yaml:4"),
        ("config/datasets/terse.yaml", "prompt", "config/datasets/sums.yaml:4"),
    }


def test_a_template_of_the_variant_is_told_with_its_line_there(root: Path) -> None:
    variant(root, "terse", include="sums", target="answr")
    (problem,) = problems(plan, root)
    assert (problem.key, problem.line) == ("target", "config/datasets/terse.yaml:2")
    assert "\n    line: config/datasets/terse.yaml:2\n    fix: did you mean 'answer'?" in str(problem)


def test_a_setting_of_the_wrong_type_is_told_with_its_line(root: Path) -> None:
    variant(root, "terse", include="sums", few_shot={"separator": 5})
    (problem,) = problems(plan, root)
    assert (problem.key, problem.line) == ("few_shot.separator", "config/datasets/terse.yaml:3")


def test_a_key_that_is_in_no_file_has_no_line(root: Path) -> None:
    (root / "config/datasets/sums.yaml").write_text("kind: generate\nprompt: x\ntarget: y\nmetrics: [exact_match]\n")
    (problem,) = problems(plan, root)
    assert (problem.key, problem.what, problem.line) == ("source", "is required", "")
