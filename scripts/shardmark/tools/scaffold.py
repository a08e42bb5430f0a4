"""A starting point for the user's own metric or filter: the file, and a test of it."""

from pathlib import Path

from shardmark.errors import Problem, UserError
from shardmark.files import write_whole

METRIC = '''"""Metric {name}: what it measures, and where its definition comes from."""


def score(prediction: str, references: list[str], row: dict) -> float:
    """What an answer is worth, from 0 to 1.

    `prediction` is what the filters found in the answer; a sample in which they found nothing scores 0 without this.
    `references` are all right answers, `row` the columns of the row. Arguments after these three are settings.
    """
    return float(prediction.strip().lower() in (right.strip().lower() for right in references))
'''
METRIC_TEST = '''"""Run with: python -m pytest {test}"""

import runpy
from pathlib import Path

import pytest

score = runpy.run_path(str(Path(__file__).with_name("{name}.py")))["score"]


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [("Paris", ["paris"], 1.0), (" Paris\\n", ["Rome", "Paris"], 1.0), ("Rome", ["Paris"], 0.0), ("", ["Paris"], 0.0)],
)
def test_score(prediction: str, references: list[str], expected: float) -> None:
    assert score(prediction, references, {{}}) == expected
'''
FILTER = '''"""Filter {name}: what it finds in an answer."""


def find(text: str, row: dict) -> str | None:
    """The answer in what a model wrote; None if there is none.

    `row` has the columns of the row. Arguments after these two are settings.
    """
    head, mark, tail = text.rpartition("answer is")
    return tail.strip(" .:\\n") or None if mark else None
'''
FILTER_TEST = '''"""Run with: python -m pytest {test}"""

import runpy
from pathlib import Path

import pytest

find = runpy.run_path(str(Path(__file__).with_name("{name}.py")))["find"]


@pytest.mark.parametrize(("text", "expected"), [("So the answer is 4.", "4"), ("I do not know", None), ("", None)])
def test_find(text: str, expected: str | None) -> None:
    assert find(text, {{}}) == expected
'''


def scaffold(name: str, folder: Path, is_filter: bool) -> list[Path]:
    """Write a metric or a filter and its test into a folder. Raises UserError for files that exist already."""
    if not name.isidentifier():
        raise UserError(Problem("NAME", "", f"{name!r} is not a name of a Python module", "use letters, digits and _"))
    file, test = folder / f"{name}.py", folder / f"test_{name}.py"
    if there := [path for path in (file, test) if path.exists()]:
        raise UserError(Problem(str(path), "", "already exists", "choose another name") for path in there)
    texts = (FILTER, FILTER_TEST) if is_filter else (METRIC, METRIC_TEST)
    for path, text in zip((file, test), texts, strict=True):
        write_whole(path, text.format(name=name, test=test))
    return [file, test]
