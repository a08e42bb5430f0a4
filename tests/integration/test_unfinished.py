"""A run that ends with failures: what is there is reported, what is not is marked, and the next run completes it."""

import csv
import os
import shutil
from pathlib import Path

import pytest

from quick_engine import use_quick_engine
from workflow import ROOT, Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CONFIG = {"run": "test", "models": ["demo_small", "demo_medium"], "datasets": ["demo_arithmetic"], "limit": 6}
FAULTS = {
    "stage": ("scripts/stage.py", "staged = stage_model", "the model is not staged"),
    "infer": ("scripts/infer.py", "files, model = (arguments.staged", "no answers of 1 of 1 shards"),
    "score": ("scripts/score.py", "out = (arguments.scores", "the answers are not scored"),
}
"A command, where a fault is put into it, and what the report says then."


def break_medium(project: Project, step: str) -> None:
    """Let a step fail for one of the two models."""
    path, place, _ = FAULTS[step]
    file = project.folder / path
    fault = "if 'medium' in str(arguments.model): raise ValueError('a fault of <i>today</i>')\n    "
    assert place in file.read_text()
    file.write_text(file.read_text().replace(place, fault + place, 1))


def statuses(project: Project) -> dict[str, str]:
    """The status of each model in the published table."""
    with open(project.results / "reports/test/leaderboard.csv") as file:
        return {row["model"]: row["status"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("step", FAULTS)
def test_what_is_there_is_reported_and_the_next_run_replaces_it(tmp_path: Path, step: str) -> None:
    project = Project.create(tmp_path / "project", **CONFIG)
    use_quick_engine(project)
    break_medium(project, step)
    output = project.run(succeeds=False)
    assert output.splitlines()[-1] == "incomplete report (1 of 2 results): results/reports/test/index.html"
    found = statuses(project)
    assert found["demo_small"] == "scored"
    assert found["demo_medium"].startswith(f"failed: {FAULTS[step][2]}: ")
    assert "ValueError: a fault of <i>today</i>" in found["demo_medium"]
    assert "(results/logs/" in found["demo_medium"]
    page = (project.results / "reports/test/index.html").read_text()
    assert "Incomplete: 1 of 2 results is missing (demo_medium)" in page
    shutil.copy(ROOT / FAULTS[step][0], project.folder / FAULTS[step][0])
    incomplete = os.readlink(project.results / "reports/test")
    assert project.run().splitlines()[-1] == "report: results/reports/test/index.html"
    assert os.readlink(project.results / "reports/test") != incomplete
    assert statuses(project) == {"demo_small": "scored", "demo_medium": "scored"}
    assert "ncomplete:" not in (project.results / "reports/test/index.html").read_text()


def test_so_it_is_without_a_profile_and_what_was_not_reached_is_not_called_failed(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", **CONFIG | {"models": ["demo_small"]})
    use_quick_engine(project)
    project.run()
    project.configure(**CONFIG | {"models": ["demo_small", "demo_medium", "demo_large"]})
    break_medium(project, "infer")
    done = project.plain("--cores", "1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("incomplete report (1 of 3 results)")
    assert [status.partition(":")[0] for status in statuses(project).values()] == ["scored", "failed", "not run"]
