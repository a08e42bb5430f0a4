"""What an earlier version answered stays valid: tests/fixtures/results_0.1 is a results folder of commit e36952c."""

import json
import shutil
from pathlib import Path

import pytest

from workflow import ROOT, Project

pytestmark = pytest.mark.slow

FORMER = ROOT / "tests/fixtures/results_0.1"
CONFIG = {"models": ["demo_small"], "datasets": ["demo_arithmetic", "demo_comparison"], "limit": 6, "max_shard_size": 4}


def primary(results: Path) -> dict[str, tuple[float, int]]:
    """The value and the number of samples of each score file, by data set."""
    found = {}
    for file in results.glob("scores/*/*.json"):
        scores = json.loads(file.read_text())
        metric = scores["metrics"][scores["primary"]]
        found[file.name] = (metric["value"], metric["n"])
    return found


def test_a_run_on_results_of_an_earlier_version_infers_nothing_and_scores_the_same(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", run="kept", **CONFIG)
    results = project.folder / "results"
    shutil.copytree(FORMER, results, dirs_exist_ok=True)
    before = primary(results)
    assert len(before) == 2
    assert project.jobs(project.run()) == {"score": 2, "report": 1}
    after = {name: value for name, value in primary(results).items() if name not in before}
    assert {name.partition("@")[0]: value for name, value in after.items()} == {
        name.partition("@")[0]: value for name, value in before.items()
    }
    assert [path.name for path in (results / "reports").glob("kept*")]
