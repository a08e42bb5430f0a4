"""What filters and metrics make of outputs of models: tables/*.jsonl, a line for each output with the right answer.

Half of the lines were written by someone who had not read the filters. `right` is null where there is no answer.
"""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardmark.config import DatasetConfig, load
from shardmark.errors import Problem
from shardmark.filters import FILTERS
from shardmark.filters.chain import filter_steps
from shardmark.metrics.math_process import MathProcess
from shardmark.scoring.load_metric import load_metric
from shardmark.texts.numbers import exact
from shardmark.texts.words import bare

ROOT = Path(__file__).parents[2]
TABLES = Path(__file__).parent / "tables"
OPTIONS = ("options", "tag", "tolerance")
PAIRS = ("exact_match_tolerance", "math_equivalence", "math_gen")


def table(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (TABLES / f"{name}.jsonl").read_text("utf-8").split("\n") if line]


@functools.cache
def datasets() -> dict[str, DatasetConfig]:
    found: list[Problem] = []
    benchmark = load({"models": ["demo_small"], "datasets": ["*"]}, ROOT, "config", found)
    assert found == []
    return {dataset.name: dataset.settings for dataset in benchmark.datasets}


def by_dataset(name: str, text: str) -> str | None:
    filters = datasets()[name].filters
    assert filters
    return filter_steps([text], filters, {})[-1][0]


def by_filter(name: str, row: dict[str, Any]) -> str | None:
    each = FILTERS[name].model_validate({"name": name, **{key: row[key] for key in OPTIONS if key in row}})
    answers = row["answers"] if "answers" in row else [row["text"]]
    return filter_steps(answers, [each], {}, opened=[row.get("opened", "")] * len(answers))[-1][0]


def code(text: str | None) -> str:
    """Without empty lines at the ends, and white space at the end."""
    return re.sub(r"\A(?:[ \t]*\r?\n)+", "", text or "").rstrip()


COMPARED = {
    "number": lambda text: None if text is None else exact(text),
    "code": code,
    "word": lambda text: re.sub(r"[^\w]", "", text or ""),
    "words": lambda text: bare(text or ""),
    "text": lambda text: (text or "").strip(),
    "exactly": lambda text: text,
}
HOW = {"fenced_code": "code", "last_number": "number", "first_number": "number"} | dict.fromkeys(
    ("strip_thinking", "xml_tag", "first_line"), "text"
)


def wrong(name: str) -> Iterator[tuple[dict[str, Any], str | None]]:
    """The rows of a table whose answer is not the right one, with what was found."""
    for row in table(name):
        if name in datasets() or "dataset" in row:
            found = by_dataset(row.get("dataset", name), row["text"])
        else:
            found = by_filter(name, row)
        compared = COMPARED[row.get("as", HOW.get(name, "exactly"))]
        if compared(found) != compared(row["right"]):
            yield row, found


@pytest.mark.parametrize("name", sorted({path.stem for path in TABLES.glob("*.jsonl")} - {*PAIRS}))
def test_the_answer_is_the_right_one(name: str) -> None:
    assert list(wrong(name)) == []


def test_numbers_are_equal_within_a_tolerance() -> None:
    rows = [row for row in table("exact_match_tolerance") if row["answer"] is not None]
    metric = load_metric("exact_match")
    for tolerance in {row["tolerance"] for row in rows}:
        some = [row for row in rows if row["tolerance"] == tolerance]
        answers, references = [row["answer"] for row in some], [row["references"] for row in some]
        scores = metric.compute(predictions=answers, references=references, tolerance=tolerance)["samples"]
        assert [row for row, score in zip(some, scores, strict=True) if bool(score) != row["right"]] == []


@pytest.mark.slow
def test_formulas_are_equal_that_mean_the_same() -> None:
    with MathProcess() as process:
        rows = table("math_equivalence")
        assert [row for row in rows if process.equal(row["answer"], row["reference"]) != row["right"]] == []
        rows = table("math_gen")
        answers = [by_dataset("math_gen", row["text"]) or "" for row in rows]
        pairs = list(zip(rows, answers, strict=True))
        assert [row for row, answer in pairs if process.equal(answer, row["reference"]) != row["right"]] == []


def test_every_extracting_filter_has_forty_outputs() -> None:
    assert {path.stem: len(table(path.stem)) for path in TABLES.glob("*.jsonl") if len(table(path.stem)) < 40} == {
        "math_gen": 20
    }
