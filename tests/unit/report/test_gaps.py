"""The report of a run that ended with failures: it says so wherever a score is missing."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from shardmark.report.build import build_report
from shardmark.report.exports import leaderboard_csv, leaderboard_markdown
from shardmark.report.groups import Group
from shardmark.report.inputs import read_gap
from shardmark.report.leaderboard import Leaderboard, rank_models
from shardmark.report.remarks import headline, incomplete
from shardmark.report.results import Results, read_results
from unit.report.fake_results import DATASETS, MODELS, write_results

WHY = "the model is not staged: config/models/m.yaml: path: <b>damaged</b>"
LOG = "results/logs/stage_model/m.log"


def gap(model: str, dataset: str, status: str = "failed") -> dict[str, Any]:
    """What the plan says of a pair without scores."""
    names = [{"name": name, "digest": "0123456789abcdef"} for name in (model, dataset)]
    return {"model": names[0], "dataset": names[1], "status": status, "reason": WHY, "log": LOG}


def results(tmp_path: Path, *absent: tuple[str, str], groups: tuple[Group, ...] = ()) -> Results:
    files = write_results(tmp_path, [*MODELS, "broken"], missing=absent, n=12)
    return read_results(files.scores, files.samples, groups=groups, gaps=[read_gap(gap(*names)) for names in absent])


def board(tmp_path: Path, *absent: tuple[str, str], groups: tuple[Group, ...] = ()) -> Leaderboard:
    return rank_models(results(tmp_path, *absent, groups=groups))


def means(board: Leaderboard) -> dict[str, bool]:
    """Whether each model has a mean."""
    return {row.model.name: row.mean is not None for row in board.rows}


def test_a_model_without_any_score_is_a_row_of_failures_and_costs_the_others_nothing(tmp_path: Path) -> None:
    absent = [("broken", dataset) for dataset in DATASETS]
    found = board(tmp_path / "all", *absent)
    files = write_results(tmp_path / "without", MODELS, missing=(), n=12)
    without = rank_models(read_results(files.scores, files.samples))
    assert [row.mean for row in found.rows] == [*(row.mean for row in without.rows), None]
    assert [cell.absence for cell in found.rows[-1].cells] == ["failed"] * len(DATASETS)
    assert len(found.in_mean) == len(without.in_mean) == len(DATASETS)
    assert (
        incomplete(found) == "Incomplete: 4 of 16 results are missing (broken), and models that lack any have no mean."
    )
    assert headline(found).startswith("demo_large leads")


def test_a_model_that_lacks_one_result_has_no_mean(tmp_path: Path) -> None:
    found = board(tmp_path, ("demo_large", "demo_capitals"))
    assert means(found) == {"demo_large": False, "demo_base": True, "demo_tiny": True, "broken": True}
    assert found.rows[-1].model.name == "demo_large"
    assert incomplete(found).startswith("Incomplete: 1 of 16 results is missing (demo_large)")


def test_a_data_set_without_any_score_is_a_column_of_failures_and_nobody_has_a_mean(tmp_path: Path) -> None:
    found = board(tmp_path, *((model, "demo_capitals") for model in [*MODELS, "broken"]))
    assert not any(means(found).values())
    assert {cell.absence for cell in found.cells(found.columns[-1])} == {"failed"}
    assert headline(found) == ""
    assert "| demo\\_capitals |" in leaderboard_markdown(found)


def test_a_group_lacks_what_its_members_lack(tmp_path: Path) -> None:
    group = Group("both", ["demo_arithmetic", "demo_capitals"])
    found = board(tmp_path, ("broken", "demo_capitals"), groups=(group,))
    cells = {cell.model: cell for cell in found.cells(found.columns[0])}
    assert [name for name, cell in cells.items() if cell.metric is None] == ["broken"]
    assert cells["broken"].absence == "failed"
    assert "Incomplete: 1 of 16 results" in incomplete(found)
    nobody = board(tmp_path / "nobody", *((model, "demo_capitals") for model in [*MODELS, "broken"]), groups=(group,))
    assert nobody.columns[0].dataset.name == "both"
    assert {cell.absence for cell in nobody.cells(nobody.columns[0])} == {"failed"}


def test_the_tables_mark_what_failed_with_its_reason(tmp_path: Path) -> None:
    found = results(tmp_path, ("broken", "demo_capitals"))
    rows = [row for row in csv.DictReader(io.StringIO(leaderboard_csv(found))) if row["status"] != "scored"]
    assert [(row["model"], row["dataset"], row["value"], row["n"]) for row in rows] == [
        ("broken", "demo_capitals", "", "")
    ]
    scored = [row for row in csv.DictReader(io.StringIO(leaderboard_csv(found))) if row["status"] == "scored"]
    assert all(row["n"].isdecimal() for row in scored)
    assert rows[0]["status"] == f"failed: {WHY} ({LOG})"
    text = leaderboard_markdown(rank_models(found))
    assert text.startswith("**Incomplete: 1 of 16 results is missing (broken)")
    assert " failed |" in text
    assert "- broken on demo\\_capitals: failed: the model is not staged" in text


@pytest.mark.parametrize("status", ["failed", "not run"])
def test_the_page_says_first_that_it_is_incomplete_and_shows_reasons_as_text(tmp_path: Path, status: str) -> None:
    absent = ("broken", "demo_capitals")
    files = write_results(tmp_path, [*MODELS, "broken"], missing=[absent], n=12)
    page = build_report("r", *files, tmp_path / "out", {}, gaps=[gap(*absent, status)]).read_text("utf-8")
    assert "<title>r (incomplete)" in page
    assert page.index("Incomplete: 1 of 16 results is missing") < page.index('id="leaderboard"')
    assert f"<span>{status}</span>" in page
    assert "&lt;b&gt;damaged&lt;/b&gt;" in page
    assert "<b>damaged" not in page
    assert LOG in page
    assert "was not run on" not in page


def test_a_whole_report_does_not_speak_of_it(tmp_path: Path) -> None:
    files = write_results(tmp_path, missing=(), n=12)
    page = build_report("r", *files, tmp_path / "out", {}).read_text("utf-8")
    assert "ncomplete" not in page.replace(".incomplete {", "")
