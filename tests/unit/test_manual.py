"""The manual's tables of filters and metrics have each of them, with its settings."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardmark.filters import FILTERS
from shardmark.metrics import METRICS
from shardmark.metrics.repeats import STATISTICS

MANUAL = (Path(__file__).parents[2] / "config/README.md").read_text("utf-8")
CODE = re.compile(r"`([^`]+)`")


def section(name: str) -> str:
    """What stands under a heading, up to the next of its level, without blocks of code."""
    found = MANUAL.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
    return re.sub(r"^```.*?^```", "", found, flags=re.MULTILINE | re.DOTALL)


def table(name: str) -> Iterator[tuple[list[str], list[str]]]:
    """Of each row of a section's table: the names in the first cell, and all cells."""
    for line in section(name).partition("\n#### ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
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


def test_each_metric_stands_in_the_manual_once_with_the_kinds_of_data_sets_it_is_for() -> None:
    told = [(name, cells[-1]) for names, cells in table("Metrics") for name in names]
    kinds = {name: {"generate", "choice"} if said == "both" else set(said.split(", ")) for name, said in told}
    assert sorted(name for name, _ in told) == sorted(METRICS)
    assert kinds == {name: kind.kinds for name, kind in METRICS.items()}


@pytest.mark.parametrize("name", METRICS)
def test_the_settings_of_a_metric_stand_in_the_manual(name: str) -> None:
    anywhere = {"name", "label", "chain", "repeats", "resamples"}
    (told,) = (" ".join(cells) for names, cells in table("Metrics") if name in names)
    assert METRICS[name].model_fields.keys() - anywhere <= words(told)
    assert anywhere - {"name"} <= words(section("Filters") + section("Metrics"))


def test_what_may_become_of_several_answers_stands_in_the_manual() -> None:
    told = section("Metrics").partition("| `repeats` |")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in told.splitlines()[2:]]
    assert {CODE.findall(first)[0]: last == "any metric" for first, _, last in rows} == {
        name: not kind.right_or_wrong for name, kind in STATISTICS.items()
    }
    settings = {key for kind in STATISTICS.values() for key in kind.model_fields}
    assert settings <= words(section("Metrics"))
