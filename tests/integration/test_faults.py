"""Killed runs and damaged files: nothing is lost, nothing wrong is believed."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from workflow import Project

CONFIG = {
    "run": "test",
    "models": ["demo_small"],
    "datasets": ["demo_grammar"],
    "limit": 60,
    "batch_size": 1,
}


def kill_when(project: Project, ready: "os.PathLike[str]") -> None:
    """Start a run and kill Snakemake and its jobs as soon as a partial file has an answer."""
    process = subprocess.Popen(
        project.command(),
        cwd=project.folder,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in Path(ready).rglob("*.partial")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run that nothing happens to."""
    project = Project.create(tmp_path_factory.mktemp("undisturbed") / "project", **CONFIG)
    project.run()
    return project


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path, undisturbed: Project) -> None:
    project = Project.create(tmp_path / "killed", **CONFIG)
    kill_when(project, project.folder / "results")
    project.run("--unlock")
    project.run()
    (trailer,) = project.trailers().values()
    assert trailer["reused"] > 0
    assert trailer["reused"] + trailer["inferred"] == 60
    assert project.samples() == undisturbed.samples()
    assert not list(project.folder.rglob("*.partial"))


def test_a_damaged_prediction_file_is_refused_by_name(tmp_path: Path, undisturbed: Project) -> None:
    project = undisturbed.copy(tmp_path / "damaged")
    (path,) = project.trailers()
    lines = path.read_text().splitlines()
    prediction = json.loads(lines[0])
    prediction["logprobs"][0] += 100
    path.write_text("\n".join([json.dumps(prediction), *lines[1:]]) + "\n")
    project.edit_yaml("config/datasets/demo_grammar.yaml", metrics=["accuracy"], version=2)
    output = project.run(succeeds=False)
    assert path.name in output
    assert "not a whole prediction file" in output
    path.unlink()
    project.run()
    assert all(sample["logprobs"][0] < 0 for sample in project.samples().values())
