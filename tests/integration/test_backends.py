"""A backend is one file: with it alone, its models are planned, run, resumed, scored, reported and explained."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from workflow import ROOT, Project

pytestmark = pytest.mark.slow

BACKENDS = "scripts/shardmark/config/backends"
ROWS = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the backend's file, a model of it, and a data set that it half knows."""
    folder = tmp_path_factory.mktemp("echo")
    project = Project.create(folder / "project", run="test", models=["echo"], datasets=["last"], max_shard_size=4)
    shutil.copy(ROOT / "tests/echo_backend.py", project.folder / BACKENDS / "echo.py")
    write(project, "models/echo", backend="echo", words=1)
    rows = [{"id": str(n), "question": f"Say {n}", "answer": str(n % 6)} for n in range(ROWS)]
    (project.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asks = {"kind": "generate", "prompt": "{{ question }}", "generation": {"max_new_tokens": 4}}
    write(project, "datasets/last", source={"file": "rows.jsonl"}, target="answer", metrics=["exact_match"], **asks)
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    return made.copy(tmp_path / "project")


def write(project: Project, name: str, **values: Any) -> None:
    (project.folder / f"config/{name}.yaml").write_text(yaml.safe_dump(values))


def leaderboard(project: Project) -> dict[str, str]:
    with open(project.folder / "results/reports/test/leaderboard.csv") as file:
        (row,) = csv.DictReader(file)
    return row


def test_it_is_run_scored_and_reported_and_only_what_changes_runs_again(project: Project) -> None:
    output = project.run()
    assert project.jobs(output) == {"stage_model": 1, "infer": 4, "score": 1, "report": 1}
    assert float(leaderboard(project)["value"]) == 0.5
    assert "Nothing to be done" in project.run()
    before = project.trailers()
    project.edit_yaml("config/models/echo.yaml", description="another one", cpus=1)
    assert project.planned() == {"report": 1}
    project.edit_yaml("config/models/echo.yaml", words=2)
    project.run()
    assert project.inferred(before) == ROWS
    assert float(leaderboard(project)["value"]) == 0


def test_what_was_answered_before_a_kill_is_not_asked_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_SECONDS", "1.5")
    run = project.start()
    partial: list[Path] = []
    while not partial and run.poll() is None:
        partial = [path for path in project.folder.glob("results/predictions/*/*/*.partial") if path.stat().st_size]
    run.kill()
    run.communicate()
    assert not project.outlived()
    monkeypatch.delenv("ECHO_SECONDS")
    project.run("--unlock")
    project.run()
    trailers = project.trailers().values()
    assert sum(trailer["reused"] for trailer in trailers) > 0
    assert sum(trailer["reused"] + trailer["inferred"] for trailer in trailers) == ROWS


def test_a_key_it_lacks_and_a_data_set_it_cannot_answer_are_refused_at_once(project: Project) -> None:
    write(project, "models/echo", backend="echo", path="weights")
    write(project, "models/other", backend="ecko")
    project.configure(run="test", models=["echo", "other"], datasets=["last"])
    output = project.run(succeeds=False)
    assert "config/models/echo.yaml: path: unknown key" in output
    assert "config/models/other.yaml: backend: there is no backend 'ecko'\n" in output
    assert "fix: did you mean 'echo'?" in output
    write(project, "models/echo", backend="echo")
    project.configure(run="test", models=["echo"], datasets=["last", "demo_comparison"], batch_size=4)
    output = project.run(succeeds=False)
    assert "batch_size: nothing in this run uses it: models of backend echo have no batch_size" in output
    project.configure(run="test", models=["echo"], datasets=["last", "demo_comparison"])
    output = project.run(succeeds=False)
    assert (
        "model echo (echo) answers only requests of kind generate, but these data sets ask others: demo_comparison"
        in output
    )


def test_editors_and_the_list_know_it(project: Project) -> None:
    subprocess.run([sys.executable, "scripts/schema.py"], cwd=project.folder, check=True)
    schema = json.loads((project.folder / "config/schemas/model.schema.json").read_text())
    words = [one["properties"]["words"]["description"] for one in schema["anyOf"] if "words" in one["properties"]]
    assert words == ["How many words it repeats."]
    fits = Draft202012Validator(schema).is_valid
    assert fits({"backend": "echo", "words": 2, "slurm": {"qos": "high"}})
    assert fits({"path": "org/m", "meta_template": {"round": {"user": {}, "assistant": {}}}})
    assert not fits({"backend": "echo", "path": "org/m"})
    assert not fits({"backend": "echo", "slurm": {"qso": "high"}})
    assert "the last 1 words" in project.run("--", "list")
