"""profiles/dlc and profiles/kubernetes, with stand-ins for their commands: the scores of a local run, no job left."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from fake_scheduler import install
from projects import write_yaml
from quick_engine import use_quick_engine
from requirements_check import need
from slurm_cluster import until
from workflow import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CONFIG = {"run": "test", "models": ["demo_small"], "datasets": ["demo_arithmetic"], "limit": 16, "max_shard_size": 8}
COMMANDS = {"dlc": "dlc", "kubernetes": "kubectl"}
SUBMITS = ("submit", "create")
STOPS = ("stop", "delete")


def settings(profile: str, folder: Path) -> dict[str, Any]:
    """What a user writes into profiles/PROFILE/PROFILE.yaml."""
    if profile == "dlc":
        return {"workspace_id": 1, "image": "registry/x:1", "data_sources": "d-1"}
    return {"image": "registry/x:1", "claim": "shared", "mount_path": str(folder), "namespace": "team"}


def calls(service: Path, words: tuple[str, ...]) -> list[list[str]]:
    """The calls of the command that begin with one of these words."""
    notes = service / "calls.jsonl"
    found = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    return [call for call in found if call[0] in words]


def asking(profile: str) -> bool:
    """Whether Snakemake is asking after a job."""
    words = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return any(f"profiles/{profile}/status.py" in line for line in words)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The scores of a local run."""
    project = Project.create(tmp_path_factory.mktemp("local") / "project", **CONFIG)
    use_quick_engine(project)
    project.run()
    return project.scores()


@pytest.mark.parametrize("profile", COMMANDS)
def test_scores_are_those_of_a_local_run_after_an_interrupt(
    profile: str, local: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("clusters")
    service = install(COMMANDS[profile], tmp_path / "service", monkeypatch.setenv)
    project = Project.create(tmp_path / "project", **CONFIG)
    use_quick_engine(project)
    write_yaml(project.folder / f"profiles/{profile}/{profile}.yaml", settings(profile, tmp_path))
    (service / "hold").touch()  # else a fast machine ends the job before it can be stopped
    run = project.start(profile=f"profiles/{profile}")
    until(lambda: calls(service, ("get",)), "a job that Snakemake has asked after", 300)
    until(lambda: asking(profile), "a job that Snakemake is asking after", 300)
    for _ in range(2):
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        time.sleep(0.2)
    output, _ = run.communicate()
    assert run.returncode == 1, output
    assert "Traceback" not in output
    until(lambda: calls(service, STOPS), "a job that is stopped")
    (service / "hold").unlink()
    project.run("--latency-wait", "10", profile=f"profiles/{profile}")
    assert project.scores() == local
    assert len(calls(service, SUBMITS)) == 2  # one for each run: two shards and their score
    assert len(calls(service, STOPS)) == 1
    assert all(os.stat(file).st_mode & 0o077 == 0 for file in (project.folder / ".snakemake").rglob("*.job"))
