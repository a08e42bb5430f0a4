"""Each part of a data set has a digest of its own, and code one that comments and layout do not change."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from projects import dataset_settings
from shardmark.config import DatasetConfig
from shardmark.plan.code import code_digest, compiled, source_digest
from shardmark.plan.components import PARTS, components

UNWRITTEN = {name for name, field in DatasetConfig.model_fields.items() if field.exclude}
"Settings that no record holds, such as a licence."
UNASKED = UNWRITTEN | {"description", "apply_chat_template", "system_instruction"}
"What a data set has no more when it is asked."
CONTENT = {"rows": "sha", "limit": None}


def of(content: dict[str, Any] = CONTENT, protocols: dict[str, int] | None = None, **changes: Any) -> dict[str, str]:
    return components(dataset_settings(**changes), content, protocols or {"scoring": 1})


def test_every_setting_but_the_description_belongs_to_one_part() -> None:
    named = [key for keys in PARTS.values() for key in keys]
    assert sorted(named) == sorted(set(DatasetConfig.model_fields) - UNASKED)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("template", {"prompt": "{{ question }}?"}),
        ("generation", {"generation": {"max_new_tokens": 3}}),
        ("filters", {"filters": ["strip"]}),
        ("metrics", {"metrics": ["f1"]}),
        ("rows", {"where": "true"}),
        ("rows", {"content": CONTENT | {"limit": 5}}),
        ("revision", {"content": CONTENT | {"rows": "another"}}),
        ("few_shot", {"content": CONTENT | {"few_shot": "another"}}),
        ("protocol", {"protocols": {"scoring": 2}}),
    ],
)
def test_a_change_shows_in_its_part_alone(part: str, change: dict[str, Any]) -> None:
    before, after = of(), of(**change)
    assert {name for name in before if before[name] != after[name]} == {part}


def does(source: str) -> list[object]:
    return compiled(compile(source, "", "exec", optimize=2))


def test_comments_docstrings_and_layout_are_no_change() -> None:
    one = '"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 1  # a comment\n'
    assert does(one) == does('"""Other."""\n\ndef f(x):\n    """Other."""\n\n    return (x + 1)\n')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x): return x + 1", "def f(x): return x + 2"),
        ("def f(x): return x + 1", "def f(x): return x - 1"),
        ("x = 1", "x = 1.0"),
        ("x = 'a'", "y = 'a'"),
        ("def f(x=1): ...", "def f(*, x=1): ..."),
        ("y in {'a', 'b'}", "y in {'a', 'c'}"),
        ("try: f()\nexcept ValueError: g()", "f()\ng()"),
    ],
)
def test_what_does_something_else_is_a_change(one: str, other: str) -> None:
    assert does(one) != does(other)


def test_sets_of_texts_are_the_same_in_every_process() -> None:
    """Python's hashes of texts differ from process to process, and with them the order of a set."""
    source = 'x in {"a", "b", "c", "d"}'
    show = f"from shardmark.plan.code import compiled; print(compiled(compile({source!r}, '', 'exec')))"
    said = [
        subprocess.check_output([sys.executable, "-c", show], env={"PYTHONPATH": "scripts", "PYTHONHASHSEED": seed})
        for seed in ("1", "2", "3")
    ]
    assert b"frozenset" in said[0]
    assert said == [said[0]] * 3


def test_the_digest_of_code_is_remembered_for_the_source_it_was_made_of(tmp_path: Path) -> None:
    first = code_digest(tmp_path, "plan")
    memo = tmp_path / "plans/code.json"
    assert source_digest("plan") in memo.read_text()
    memo.write_text("damaged")
    assert code_digest(tmp_path, "plan") == first
    assert source_digest("plan") in memo.read_text()
