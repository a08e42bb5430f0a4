"""The manual's tables of filters and metrics have each of them, with its settings."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardmark.filters import FILTERS

MANUAL = (Path(__file__).parents[2] / "config/README.md").read_text("utf-8")
CODE = re.compile(r"`([^`]+)`")


def section(name: str) -> str:
    """What stands under a heading, up to the next of its level."""
    return MANUAL.partition(f"\n### {name}\n")[2].partition("\n### ")[0]


def table(name: str) -> Iterator[tuple[list[str], list[str]]]:
    """Of each row of a section's table: the names in the first cell, and all cells."""
    for line in section(name).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells[0] != "name":
            yield [re.sub(r"\{name: (\w+).*", r"\1", code) for code in CODE.findall(cells[0])], cells


def words(text: str) -> set[str]:
    """The words in what is set as code."""
    return set(re.findall(r"\w+", " ".join(CODE.findall(text))))


def test_each_filter_stands_in_the_manual_once() -> None:
    assert sorted(name for names, _ in table("Filters") for name in names) == sorted(FILTERS)


@pytest.mark.parametrize("name", FILTERS)
def test_the_settings_of_a_filter_stand_in_the_manual(name: str) -> None:
    assert FILTERS[name].model_fields.keys() <= words(section("Filters")) | {"name"}
