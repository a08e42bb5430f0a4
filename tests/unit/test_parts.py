"""One file of config/datasets may stand for many data sets, and one of config/suites for a selection of files."""

from pathlib import Path
from typing import Any

import pytest

from projects import GENERATE, write_dataset, write_model, write_rows, write_yaml
from shardmark.config import Benchmark, load
from shardmark.errors import Problem
from shardmark.tools.needed_files import config_names

PARTS = {"de": {"word": "Antwort"}, "fr": {"word": "Réponse"}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a data set, and one in two languages."""
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "alone")
    languages(tmp_path)
    return tmp_path


def languages(root: Path, **changes: Any) -> None:
    for name in ("de", "fr"):
        write_rows(root / f"data/sums/{name}.jsonl", [{"question": f"q {name}", "answer": "1"}])
    keys = GENERATE | {"source": {"file": f"{root}/data/sums/${{name}}.jsonl"}, "prompt": "{{ question }}\n${word}:"}
    given = keys | {"description": "sums", "parts": PARTS} | changes
    write_yaml(root / "config/datasets/sums.yaml", {key: value for key, value in given.items() if value is not None})


def loaded(root: Path, *names: str) -> Benchmark:
    found: list[Problem] = []
    benchmark = load({"models": ["m"], "datasets": [*names]}, root, "config", found)
    assert found == []
    return benchmark


def wrong(root: Path, *names: str) -> list[Problem]:
    found: list[Problem] = []
    load({"models": ["m"], "datasets": [*names]}, root, "config", found)
    return found


def test_a_file_with_parts_is_a_group_of_data_sets_that_say_what_they_are(root: Path) -> None:
    benchmark = loaded(root, "sums", "alone")
    found = {each.name: each.settings for each in benchmark.datasets}
    assert [*found] == ["alone", "sums.de", "sums.fr"]
    assert [found[name].prompt for name in ("sums.de", "sums.fr")] == [
        "{{ question }}\nAntwort:",
        "{{ question }}\nRéponse:",
    ]
    assert (found["sums.de"].source.file, found["sums.de"].description) == (f"{root}/data/sums/de.jsonl", "sums (de)")
    (group,) = benchmark.groups
    assert (group.name, group.members, group.settings.mean) == ("sums", ["sums.de", "sums.fr"], "macro")
    assert {each.file for each in (*benchmark.datasets, group)} == {"config/datasets/alone.yaml", group.file}


@pytest.mark.parametrize("wanted", [["sums.fr"], ["*.fr"], ["su*.f*"], ["sums.[f]r", "sums.fr"]])
def test_a_part_can_be_named_alone(root: Path, wanted: list[str]) -> None:
    benchmark = loaded(root, *wanted)
    assert [each.name for each in benchmark.datasets] == ["sums.fr"]
    assert benchmark.groups == []


def test_a_star_means_each_data_set_once(root: Path) -> None:
    assert sorted(each.name for each in loaded(root, "*", "sums.de").datasets) == ["alone", "sums.de", "sums.fr"]


def test_a_mean_of_samples_and_a_list_of_parts(root: Path) -> None:
    languages(root, parts=["de", "fr"], parts_mean="micro", prompt="{{ question }}")
    benchmark = loaded(root, "sums")
    assert [each.settings.prompt for each in benchmark.datasets] == ["{{ question }}"] * 2
    assert benchmark.groups[0].settings.mean == "micro"


def test_parts_may_be_included(root: Path) -> None:
    (root / "config/datasets/sums.yaml").rename(root / "config/datasets/_sums.yaml")
    write_yaml(root / "config/datasets/short.yaml", {"include": "_sums", "generation": {"max_new_tokens": 4}})
    found = loaded(root, "short").datasets
    assert [(each.name, each.settings.generation.max_new_tokens) for each in found] == [
        ("short.de", 4),
        ("short.fr", 4),
    ]


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"parts": []}, "parts", "names no parts"),
        ({"parts": ["de", "de"], "prompt": "{{ question }}"}, "parts", "de occurs twice"),
        ({"parts": {"a.b": {"word": "x"}}}, "parts", "'a.b' cannot be the name of a part"),
        ({"parts": {"de": {"word": "x"}, "fr": {}}}, "parts.fr", "gives no word, unlike"),
        ({"prompt": "{{ question }}"}, "parts", "nothing uses word"),
        ({"parts": {"de": {"name": "x"}}, "prompt": "${name}"}, "parts", "name always stands for the part's name"),
        ({"parts": ["de"], "source": {"file": "x"}, "prompt": "{{ question }}"}, "parts", "all parts are the same"),
        ({"parts_mean": "weighted"}, "parts_mean", "input should be 'macro' or 'micro'"),
        ({"kind": "essay"}, "kind", "input should be"),
    ],
)
def test_what_is_wrong_with_parts_is_told_once(root: Path, changes: dict[str, Any], key: str, said: str) -> None:
    languages(root, **changes)
    (problem,) = wrong(root, "sums")
    assert (problem.where, problem.key) == ("config/datasets/sums.yaml", key)
    assert said in problem.what


def test_parts_mean_without_parts_is_refused(root: Path) -> None:
    languages(root, parts=None, parts_mean="micro", prompt="{{ question }}", source={"file": "x"})
    (problem,) = wrong(root, "sums")
    assert "parts_mean has no effect" in problem.what


def test_a_group_names_parts_and_not_their_file(root: Path) -> None:
    write_yaml(root / "config/datasets/some.yaml", {"group": ["alone", "sums.*"]})
    assert loaded(root, "some").groups[0].members == ["alone", "sums.de", "sums.fr"]
    write_yaml(root / "config/datasets/some.yaml", {"group": ["alone", "sum*"]})
    (problem,) = wrong(root, "some")
    assert "sums is a group itself" in problem.what


def suite(root: Path, name: str, *datasets: str) -> None:
    write_yaml(root / f"config/suites/{name}.yaml", {"description": "all", "datasets": [*datasets]})


def test_a_suite_stands_for_its_data_sets(root: Path) -> None:
    suite(root, "all", "alone", "sums")
    benchmark = loaded(root, "suite/all", "sums.de")
    assert [each.name for each in benchmark.datasets] == ["alone", "sums.de", "sums.fr"]
    assert [group.name for group in benchmark.groups] == ["sums"]
    assert benchmark.run.datasets == ["suite/all", "sums.de"]
    needed = config_names(benchmark, root)
    assert {"config/suites/all.yaml", "config/datasets/sums.yaml", "config/datasets/alone.yaml"} <= needed


def test_what_is_wrong_with_a_suite_is_told_with_names(root: Path) -> None:
    suite(root, "good", "alone")
    suite(root, "missing", "alone", "sumz")
    suite(root, "nested", "suite/good")
    write_yaml(root / "config/suites/keys.yaml", {"dataset": ["alone"]})
    told = {
        name: [(problem.where, problem.what, problem.fix) for problem in wrong(root, f"suite/{name}")]
        for name in ("goood", "missing", "nested", "keys")
    }
    ((where, what, fix),) = told["goood"]
    assert (where, what) == ("config", "no file config/suites/goood.yaml")
    assert fix.startswith("did you mean 'suite/good' or ")  # shipped ones are near, too
    assert told["missing"][0][:2] == ("config/suites/missing.yaml", "no file config/datasets/sumz.yaml")
    assert told["nested"][0][1] == "suite/good is a suite itself"
    assert {what for _, what, _ in told["keys"]} == {"unknown key", "is required"}
