"""config/benchmark.lock through the real workflow: followed, frozen, relocked; and files that change during a run."""

import json
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

import forked
from workflow import ROOT, Project

CONFIG = {"run": "test", "models": ["demo_small"], "datasets": ["demo_grammar"], "limit": 4}
FROZEN = ("--config", "frozen=true")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.create(tmp_path / "project", **CONFIG)


def relock(project: Project, *options: str) -> subprocess.CompletedProcess[str]:
    """Call the command without Snakemake."""
    command = ("scripts/relock.py", "--configfile", "config/test.yaml", *options)
    return forked.python(*command, folder=project.folder, environment=project.environment())


def snakemake_relock(project: Project, *options: str, succeeds: bool = True) -> str:
    """Ask Snakemake for the target; before --configfile, which would take it for another file."""
    command = project.command(*options)
    command.insert(command.index("--profile"), "relock")
    done = forked.python(*command[1:], folder=project.folder, environment=project.environment())
    assert (done.returncode == 0) == succeeds, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_lock_is_made_frozen_refused_and_relocked(project: Project) -> None:
    lock, rows = project.folder / "config/benchmark.lock", project.folder / "demo/data/grammar.jsonl"
    refused = project.run("-n", *FROZEN, succeeds=False)
    assert "2 problems found" in refused
    assert "config/benchmark.lock: models.demo_small.folder: new: path demo/models/small" in refused
    assert not lock.exists()
    assert "lock: 2 new in config/benchmark.lock, once this has run" in project.run("-np")
    assert not lock.exists(), "a dry run pins nothing"
    assert relock(project).returncode == 0
    before = lock.read_bytes()
    assert json.loads(before)["datasets"]["demo_grammar"]["file"]["rows"] == 200, "whatever the limit"

    rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[1:]))
    refused = project.run("-n", *FROZEN, succeeds=False)
    assert "1 problem found" in refused
    assert "config/benchmark.lock: datasets.demo_grammar.file: sha256 " in refused
    assert ", 200 -> 199 rows, but the lock is frozen" in refused
    assert "fix: restore demo/data/grammar.jsonl, or accept the changes: `snakemake relock" in refused
    checked = relock(project, "--check")
    assert (checked.returncode, lock.read_bytes()) == (1, before)
    assert "lock: data set demo_grammar: sha256 " in checked.stdout
    assert "1 entry would change; nothing was written" in checked.stdout

    told = snakemake_relock(project, *FROZEN)
    assert "lock: data set demo_grammar: sha256 " in told
    assert "infer" not in told, "nothing else runs"
    assert json.loads(lock.read_bytes())["datasets"]["demo_grammar"]["file"]["rows"] == 199
    checked = relock(project, "--check")
    assert (checked.returncode, checked.stdout) == (0, "config/benchmark.lock: current\n")
    assert "lock:" not in project.run("-n", *FROZEN)


@pytest.mark.slow
def test_relock_takes_the_runs_configuration_and_no_other_target(project: Project) -> None:
    told = snakemake_relock(project, "--config", "datasets=[demo_grammar,demo_strings]")
    assert "3 entries changed; commit it" in told
    lock = project.folder / "config/benchmark.lock"
    assert list(json.loads(lock.read_bytes())["datasets"]) == ["demo_grammar", "demo_strings"]
    assert not (project.folder / "results/tasks").exists(), "nothing was planned"
    wrong = snakemake_relock(project, "--config", "datasets=demo_gramar", succeeds=False)
    assert "--config: datasets: no file config/datasets/demo_gramar.yaml" in wrong
    assert "did you mean 'demo_grammar'" in wrong
    words = project.command("-n")
    both = forked.python(
        *words[1:3], "all", "relock", *words[3:], folder=project.folder, environment=project.environment()
    )
    assert both.returncode == 1
    assert "relock: give this target alone" in both.stdout + both.stderr


def test_the_committed_lock_is_that_of_the_demo(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project")
    shutil.copy(ROOT / "config/benchmark.lock", project.folder / "config")
    shutil.copy(ROOT / "config/demo.yaml", project.folder / "config/test.yaml")
    assert "lock:" not in project.run("-n", *FROZEN)


@pytest.mark.slow
def test_a_file_that_changes_during_a_run_is_named_at_its_end(project: Project) -> None:
    rows, weights = project.folder / "demo/data/grammar.jsonl", project.folder / "demo/models/small"

    def edit() -> None:
        deadline = time.monotonic() + 120
        while not list((project.folder / "results").glob("models/*.json")):  # the last that planning writes
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        rows.write_text(rows.read_text().replace("Grace", "Gracie", 1))
        (weights / "config.json").touch()

    editor = threading.Thread(target=edit)
    editor.start()
    output = project.run("--until", "stage_model")
    editor.join()
    changed = [line for line in output.splitlines() if line.startswith("changed during the run: ")]
    assert changed == ["changed during the run: demo/data/grammar.jsonl; run again to evaluate what is there now"]
