"""Each part of a data set has a digest of its own, and code one that comments and layout do not change."""

from pathlib import Path
from typing import Any

import pytest

from projects import dataset_settings
from shardmark.config import DatasetConfig
from shardmark.plan.code import code_digest, source_digest, without_comments
from shardmark.plan.components import PARTS, components

CONTENT = {"rows": "sha", "limit": None}


def of(content: dict[str, Any] = CONTENT, protocols: dict[str, int] | None = None, **changes: Any) -> dict[str, str]:
    return components(dataset_settings(**changes), content, protocols or {"scoring": 1})


def test_every_setting_but_the_description_belongs_to_one_part() -> None:
    named = [key for keys in PARTS.values() for key in keys]
    assert sorted(named) == sorted(set(DatasetConfig.model_fields) - {"include", "description"})


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


def test_comments_docstrings_and_layout_are_no_change() -> None:
    one = '"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 1  # a comment\n'
    assert without_comments(one) == without_comments("def f(x):\n\n    return (x + 1)\n")
    assert without_comments(one) != without_comments("def f(x): return x + 2")


def test_the_digest_of_code_is_remembered_for_the_source_it_was_made_of(tmp_path: Path) -> None:
    first = code_digest(tmp_path, "plan")
    memo = tmp_path / "plans/code.json"
    assert source_digest("plan") in memo.read_text()
    memo.write_text("damaged")
    assert code_digest(tmp_path, "plan") == first
    assert source_digest("plan") in memo.read_text()
