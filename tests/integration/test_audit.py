"""audit infers some requests of a finished run again, and names those whose answers are others."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import forked
from quick_engine import use_quick_engine
from shardmark.records.trailer import Made
from shardmark.store.predictions import read_predictions, write_predictions
from workflow import Project

CONFIG: dict[str, Any] = {
    "run": "test",
    "models": ["demo_small"],
    "datasets": ["demo_arithmetic", "demo_grammar"],
    "limit": 12,
    "max_shard_size": 8,
}


def audit(project: Project, *options: str) -> Any:
    words = ("scripts/audit.py", "--configfile", "config/test.yaml", *options)
    return forked.python(*words, folder=project.folder, environment=project.environment())


@pytest.mark.slow
def test_an_audit_tells_how_many_answers_are_given_again(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", **CONFIG)
    use_quick_engine(project)
    done = audit(project)
    assert done.returncode == 1
    assert "nothing of this run is scored yet" in done.stderr
    project.run()
    before = sorted(project.results.rglob("*.jsonl"))
    assert "20 of 20 requests agree" in project.run("--", "audit")
    assert "24 of 24 requests agree" in audit(project, "-n", "100").stdout
    assert sorted(project.results.rglob("*.jsonl")) == before, "nothing of it is left"
    path = next(project.results.glob("predictions/*/demo_arithmetic/*.jsonl"))
    answers, trailer = read_predictions(path)
    key = min(answers)
    answers[key] = replace(answers[key], text="made up")
    facts = {name: getattr(trailer, name) for name in Made.__struct_fields__}
    write_predictions(path, answers.values(), Made(**facts))
    done = audit(project, "-n", "100", "--seed", "7")
    assert done.returncode == 1
    assert f"demo_small on demo_arithmetic, request {key[:16]}: 'made up' before, " in done.stdout
    assert "23 of 24 requests agree (drawn with --seed 7)" in done.stdout
    assert "Nothing to be done" in project.run()
