"""A run's report is compared with its last complete report that had other scores."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import made_up_answers
from finished_runs import CHOICE, COLOURS, finished_run
from projects import plan, write_dataset
from shardmark import layout
from shardmark.errors import UserError
from shardmark.export.finished import read_previous
from shardmark.files import read_json
from shardmark.plan.plan import Plan
from shardmark.report.build import build_report
from shardmark.report.changes import Previous
from shardmark.workflow.newest_report import link_newest
from shardmark.workflow.unfinished import plan_unfinished


@pytest.fixture
def root(tmp_path: Path) -> Path:
    finished_run(tmp_path)
    return tmp_path


def planned(root: Path, revision: str = "") -> Plan:
    """The run's plan; another revision of a data set has other scores."""
    if revision:
        write_dataset(root, "colours", COLOURS, **CHOICE | {"prompt": revision + " {{ q }}"})
    return plan(root, run="trial", max_shard_size=4)


def against(made: Plan, name: str = "") -> str:
    return str(read_json(layout.REPORT_INPUTS.file(made.results, report=name or made.report.name)).get("against", ""))


def test_the_first_report_has_none_to_be_compared_with(root: Path) -> None:
    first = planned(root)
    assert against(first) == ""
    assert first.report.name == os.readlink(first.published)


def published(made: Plan) -> None:
    made.report.mkdir(exist_ok=True)
    (made.report / "index.html").touch()
    link_newest(made.report, made.published)


def test_a_report_is_compared_with_the_published_one_for_good(root: Path) -> None:
    first = planned(root)
    second = planned(root, "Say:")
    assert against(second) == first.report.name
    published(second)
    third = planned(root, "Tell:")
    assert against(third) == second.report.name
    published(third)
    again = planned(root, "Say:")
    assert (again.report, against(again)) == (second.report, first.report.name)


def test_a_report_of_the_same_scores_is_compared_with_what_theirs_was(root: Path) -> None:
    first, second = planned(root), planned(root, "Say:")
    published(second)
    write_dataset(root, "colours", COLOURS, **CHOICE | {"prompt": "Say: {{ q }}", "description": "other words"})
    third = planned(root)
    assert third.report != second.report
    assert against(third) == first.report.name


def test_a_report_with_gaps_is_passed_over(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = planned(root), planned(root, "Say:")
    part = plan_unfinished(second, 0.0)
    assert against(second, part.name) == first.report.name
    link_newest(part, second.published)
    assert against(planned(root)) == first.report.name
    assert against(planned(root, "Tell:")) == first.report.name


def test_the_page_says_what_has_changed(root: Path) -> None:
    first, second = planned(root), planned(root, "Say:")
    made_up_answers.finish(second, made_up_answers.guesses)
    inputs = SimpleNamespace(**read_json(layout.REPORT_INPUTS.file(second.results, report=second.report.name)))
    previous = Previous(first.report.name, read_previous(second.results, inputs.against))
    files = [Path(path) for path in inputs.scores], [Path(path) for path in inputs.samples]
    pages = [
        build_report("trial", *files, root / f"out{n}", {}, previous=previous).parent.joinpath("changes.html")
        for n in range(2)
    ]
    text = pages[0].read_text("utf-8")
    assert text == pages[1].read_text("utf-8")
    assert f"<span>since {first.report.name} of " in text
    assert "<span>2 results changed</span>" in text
    assert "template: " in text
    index = pages[0].with_name("index.html").read_text("utf-8")
    assert '<a href="changes.html">2 results changed since the last report</a>' in index
    assert "changes.html" not in build_report("trial", *files, root / "out", {}).read_text("utf-8")


def test_a_previous_report_without_its_scores_is_named(root: Path) -> None:
    first = planned(root)
    gone = next((first.results / "scores").rglob("*.json"))
    gone.unlink()
    with pytest.raises(UserError, match="is gone"):
        read_previous(first.results, first.report.name)
    with pytest.raises(UserError, match="is gone"):
        read_previous(first.results, "trial@0123456789abcdef")
