"""The command that compares a finished report's models, its data sets, or two reports."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finished_runs import finished_run
from shardmark.errors import UserError
from shardmark.tools.compare import changes_table, compare_report, compare_reports, comparison_table
from workflow import ROOT


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("run"))


def test_models_are_compared_on_each_data_set(report: Path) -> None:
    (found,) = compare_report(report, [], [])
    assert {found.first, found.second} == {"good", "bad"}
    assert {line.name for line in found.lines} == {"sums", "colours", "texts"}
    assert all(line.n == line.wins + line.losses + line.ties for line in found.lines if line.wins is not None)  # type: ignore[operator]
    assert comparison_table(found).row_count == 4
    assert [line.name for line in compare_report(report, ["bad", "good"], ["sums"])[0].lines] == ["sums"]


@pytest.mark.parametrize(
    ("models", "datasets", "what"),
    [
        (["good", "none"], [], "'none' is not in the report"),
        ([], ["none"], "'none' is not in the report"),
        ([], ["sums", "colours"], "do not ask about the same rows"),
        (["good"], [], "only one model"),
        (["bda"], [], "'bda' is not in the report"),
    ],
)
def test_names_that_are_not_there_are_refused(report: Path, models: list[str], datasets: list[str], what: str) -> None:
    with pytest.raises(UserError, match=what):
        compare_report(report, models, datasets)


def test_a_report_is_not_different_from_itself(report: Path) -> None:
    found = compare_reports(report, report)
    assert found == []
    assert changes_table(found).row_count == 0


def test_a_damaged_file_of_samples_is_named_and_its_samples_are_not_called_gone(report: Path, tmp_path: Path) -> None:
    other = finished_run(tmp_path)
    for file in (other.resolve().parent.parent / "samples").glob("*/*.jsonl"):
        file.write_text(file.read_text("utf-8")[:-9], "utf-8")
    with pytest.raises(UserError, match=r"\.jsonl:\d+: "):
        compare_reports(report, other)


@pytest.mark.slow
def test_the_command_prints_tables_and_writes_json(report: Path, tmp_path: Path) -> None:
    def run(*more: str) -> Any:
        command = [sys.executable, "scripts/compare.py", "--report", str(report), *more]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    text = run("--models", "good", "bad", "--json", str(tmp_path / "found.json"))
    assert "good – bad" in text
    assert "significant at the 5 % level" in text
    assert json.loads((tmp_path / "found.json").read_text())[0]["lines"][0]["p"] <= 1
    assert "0 of the report's results differ" in run("--against", str(report), "--html", str(tmp_path / "c.html"))
    assert "Nothing differs." in (tmp_path / "c.html").read_text()
