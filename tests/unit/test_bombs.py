"""Configurations that would fill the memory or the recursion are problems with a line, within seconds."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from projects import problems, write_dataset, write_model, write_yaml
from shardmark.config import load
from shardmark.config.include import read_values
from shardmark.config.merge import merge
from shardmark.config.search_path import ConfigFiles
from shardmark.config.yaml_files import MAX_DEPTH, MAX_VALUES, load_yaml, read_yaml, values_in
from shardmark.errors import Problem
from shardmark.tasks.lm_eval.files import read_config
from shardmark.workflow.snakefile import tool_config


def aliases(first: str, then: str) -> str:
    """Ten lines, each with ten aliases of the line before."""
    lines = [f"a: &a {first}"]
    for name, before in zip("bcdefghij", "abcdefghi", strict=True):
        lines.append(f"{name}: &{name} {then.format(*[f'*{before}'] * 10)}")
    return "\n".join(lines)


BOMBS = {
    "lists of aliases": (aliases("[x, y]", "[{}, {}, {}, {}, {}, {}, {}, {}, {}, {}]"), "more than 1,000,000 values"),
    "mappings of aliases": (aliases("{k: 1}", "{{k: {}, l: {}, m: {}, n: {}, o: {}, p: {}}}"), "1,000,000 values"),
    "merges": (aliases("{k: 1, l: 2}", "{{<<: [{}, {}, {}, {}, {}, {}, {}, {}, {}, {}]}}"), "1,000,000 values"),
    "a merge of itself": ("a: &a\n  <<: *a\n", "a value that contains it"),
    "a merge of what it is in": ("a: &a\n  b:\n    <<: *a\n", "a value that contains it"),
    "a list in itself": ("a: &a [*a]\n", "a value that contains it"),
    "a mapping in its key": ("&a {? *a : 1}\n", "a value that contains it"),
    "an anchor twice": ("a: &x 1\nb: &x 2\n", "duplicate anchor"),
    "5,000 digits": ("limit: " + "9" * 5000, "5,000 characters"),
    "hexadecimal digits": ("limit: 0x" + "f" * 5000, "characters"),
    "binary digits": ("limit: -0b" + "1" * 9000, "characters"),
    "sexagesimal digits": ("limit: 1" + ":30" * 5000, "characters"),
    "brackets": ("a: " + "[" * 500 + "]" * 500, "nested more than"),
    "open brackets": ("[" * 100_000, "nested more than"),
    "braces": ("{a: " * 500, "nested more than"),
    "dashes": ("- " * 5000 + "x", "nested more than"),
    "question marks": ("? " * 5000 + "x", "nested more than"),
    "blocks": ("".join(" " * n + "a:\n" for n in range(500)), "nested more than"),
    "30 February": ("limit: 2024-02-30", "'2024-02-30' is not a valid value: day is out of range"),
    "month 13": ("limit: 2024-13-01 99:99:99", "month must be in 1..12"),
    "an integer of no digits": ("a: !!int x", "is not a valid value"),
    "a float of no digits": ("a: !!float ''", "is not a valid value"),
    "a truth that is none": ("a: !!bool maybe", "is not a valid value"),
    "a list for a key": ("? [a]\n: 1", "unhashable key"),
    "a Python object": ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
}


@pytest.fixture(params=BOMBS)
def bomb(request: pytest.FixtureRequest) -> tuple[str, str]:
    return BOMBS[request.param]


def test_a_file_that_would_fill_the_memory_is_refused_with_its_line(tmp_path: Path, bomb: tuple[str, str]) -> None:
    text, said = bomb
    (tmp_path / "f.yaml").write_text(text)
    found: list[Problem] = []
    begin = time.monotonic()
    assert read_yaml(tmp_path / "f.yaml", "f.yaml", found) is None
    assert read_values(Path("f.yaml"), tmp_path, ConfigFiles({}, {}), found) is None
    (told,) = problems(read_config, tmp_path / "f.yaml")
    (merged,) = problems(merge, [tmp_path / "f.yaml"], [])
    assert time.monotonic() - begin < 30
    assert all(said in problem.what for problem in (*found, merged))
    assert "f.yaml:" in found[0].where
    assert "f.yaml" in told.where


def test_what_is_large_but_no_bomb_is_read() -> None:
    rows = "".join(f"- {{question: q{n}, answer: &a{n} {n}}}\n" for n in range(2000))
    assert len(load_yaml(rows)) == 2000
    assert load_yaml("a: &a [1]\nb: *a\nc: {<<: {x: 1}, y: *a}") == {"a": [1], "b": [1], "c": {"x": 1, "y": [1]}}
    deep = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert load_yaml(f"a: {deep}") == yaml.safe_load(f"a: {deep}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "d")
    return tmp_path


def told_of(root: Path, **config: Any) -> list[Problem]:
    found: list[Problem] = []
    load({"models": ["m"], "datasets": ["d"]} | config, root, "run.yaml", found)
    return found


def test_thousands_of_unknown_keys_are_counted(root: Path) -> None:
    keys = {f"key{n}": n for n in range(20_000)}
    (root / "config/models/many.yaml").write_text("".join(f"{key}: 1\n" for key in keys))
    begin = time.monotonic()
    run = problems(told_of, root, **keys)
    models = told_of(root, models=["many"])
    assert time.monotonic() - begin < 60
    for found in (run, models):
        assert len(found) == 21
        assert "more keys are wrong" in found[-1].what


@pytest.mark.parametrize("value", [10**30, float("inf"), float("nan"), -(10**4000)])
@pytest.mark.parametrize("key", ["limit", "max_shard_cost", "max_shard_size", "batch_size", "progress_seconds"])
def test_a_number_beyond_all_measure_is_refused(root: Path, key: str, value: Any) -> None:
    assert {problem.key for problem in problems(told_of, root, **{key: value})} == {key}


@pytest.mark.parametrize("value", ["a\0b", {1, 2}, b"x"])
def test_what_no_setting_can_be_is_refused(root: Path, value: Any) -> None:
    (problem,) = problems(told_of, root, hf_path="org/m", tokenizer_kwargs={"a": [value]})
    assert problem.key == "tokenizer_kwargs.a.0"


def test_a_configuration_that_snakemake_has_read_is_measured(root: Path) -> None:
    bomb: Any = "x"
    for _ in range(9):
        bomb = [bomb] * 10
    (problem,) = problems(told_of, root, models=bomb)
    assert (problem.where, "more than" in problem.what) == ("run.yaml", True)
    with pytest.raises(SystemExit):
        tool_config({"models": bomb}, str(root))
    loop: list[Any] = []
    loop.append(loop)
    assert values_in(loop) > MAX_VALUES
    assert values_in({"a": [1, 2, {"b": 3}]}) == 6


def test_files_that_include_others_twice_are_read_once(tmp_path: Path) -> None:
    for n in range(30):
        write_yaml(tmp_path / f"f{n}.yaml", {"include": [f"f{n + 1}", f"f{n + 1}"], f"k{n}": n})
    write_yaml(tmp_path / "f30.yaml", {"end": 1})
    files = {f"f{n}": Path(f"f{n}.yaml") for n in range(31)}
    found: list[Problem] = []
    assert read_values(Path("f0.yaml"), tmp_path, ConfigFiles(files, {}), found) == {
        "end": 1,
        **{f"k{n}": n for n in range(30)},
    }
    assert found == []


def test_a_long_chain_of_files_is_refused(tmp_path: Path) -> None:
    files = {f"f{n}": Path(f"f{n}.yaml") for n in range(400)}
    for n in range(399):
        write_yaml(tmp_path / f"f{n}.yaml", {"include": f"f{n + 1}"})
    write_yaml(tmp_path / "f399.yaml", {"end": 1})
    found: list[Problem] = []
    assert read_values(Path("f0.yaml"), tmp_path, ConfigFiles(files, {}), found) is None
    assert [problem.key for problem in found] == ["include"]
