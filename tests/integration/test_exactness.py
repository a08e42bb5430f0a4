"""Scores don't depend on batches, shards or the order of rows."""

import math
from pathlib import Path

import pytest

from quick_engine import use_quick_scoring
from workflow import Project

pytestmark = pytest.mark.slow
CONFIG = {"run": "test", "models": ["demo_medium"], "datasets": ["demo_strings", "demo_grammar"], "limit": 12}


@pytest.mark.parametrize(
    "variant",
    [{"max_shard_size": 6, "batch_size": 1}, {"batch_size": 5, "batch_padding": False}],
    ids=str,
)
def test_predictions_do_not_depend_on_batches_and_shards(
    tmp_path: Path, variant: dict[str, object], reference: Project
) -> None:
    project = Project.create(tmp_path / "project", **CONFIG, **variant)
    use_quick_scoring(project)
    project.run()
    expected, found = reference.samples(), project.samples()
    assert found.keys() == expected.keys()
    for key, sample in found.items():
        assert sample["output"] == expected[key]["output"]
        assert sample["scores"] == expected[key]["scores"]
        for a, b in zip(sample.get("logprobs", []), expected[key].get("logprobs", []), strict=True):
            assert math.isclose(a, b, abs_tol=1e-4)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One shard, automatic batches."""
    project = Project.create(tmp_path_factory.mktemp("reference") / "project", **CONFIG)
    use_quick_scoring(project)
    project.run()
    return project
