"""The commands as targets of the real Snakemake, and as they are, beside a run that has finished."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import forked
from quick_engine import finished_project
from workflow import SMALL_RUN, Project


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run that has finished, in a project with no other runs."""
    project, _ = finished_project(tmp_path_factory)
    for name in ("config", "demo", "gemma"):
        (project.folder / f"config/{name}.yaml").unlink()
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of it in another folder."""
    return finished.copy(tmp_path / "copy")


def command(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of scripts/ without Snakemake."""
    script, *rest = arguments
    words = (f"scripts/{script}.py", *rest, "--configfile", "config/test.yaml")
    return forked.python(*words, folder=project.folder, environment=project.environment())


def test_list_is_a_target(finished: Project) -> None:
    shown = finished.run("--", "list")
    assert "8 models, * 1 of them in this run" in shown
    assert "config/datasets/siqa_gen.yaml" in shown


def test_prompts_is_a_target(finished: Project) -> None:
    shown = finished.run("--", "prompts").splitlines()
    asked = [line for line in shown if line.startswith("-- demo_arithmetic")]
    assert len(asked) == 3
    at = shown.index(asked[0])
    assert shown[at + 1 : at + 4] == ["prompt: 12 characters; 13 tokens for demo_small", "  | Q: 14+21=", "  | A:"]


def test_plan_is_a_target_and_tells_what_a_dry_run_would_do(project: Project) -> None:
    rows = project.folder / "demo/data/arithmetic.jsonl"
    rows.write_text(rows.read_text().replace("14+21", "14+22", 1))
    shown = project.run("--", "plan")
    total = [line.split() for line in shown.splitlines() if line.split()[:1] == ["total"]][-1]
    assert total[2:4] == ["1", "1"], "one shard to run, one request; the first total is Snakemake's"
    told = json.loads(command(project, "plan", "--json").stdout)
    edited = {pair["dataset"]: (pair["missing_shards"], pair["requests_to_infer"]) for pair in told["pairs"]}
    assert edited == {"demo_arithmetic": (1, 1), "demo_grammar": (0, 0)}
    assert told["total"]["requests_to_infer"] == 1
    assert project.planned()["infer"] == 1


@pytest.mark.slow
def test_gc_is_a_target_that_removes_nothing(project: Project) -> None:
    old = os.readlink(project.folder / "results/reports/test")
    project.configure(**SMALL_RUN | {"datasets": ["demo_grammar"]})
    before = set(project.folder.glob("results/*/*/*"))
    shown = project.run("--", "gc")
    assert "nothing was removed" in shown
    assert before <= set(project.folder.glob("results/*/*/*"))
    done = command(project, "garbage", "--delete")
    assert done.returncode == 0, done.stderr
    assert not [path for path in project.folder.glob("results/predictions/*/*") if path.name != "demo_grammar"]
    assert (project.folder / "results/reports" / old).is_dir(), "the newest report there is"
    assert project.planned() == {"report": 1}
    project.run()
    command(project, "garbage", "--delete")
    assert not (project.folder / "results/reports" / old).exists()
    assert project.planned() == {}


@pytest.mark.slow
def test_a_damaged_file_fails_verify_and_is_made_anew_after_delete(project: Project) -> None:
    assert "all are intact" in project.run("--", "verify")
    (score,) = project.folder.glob("results/scores/*/demo_grammar@*.json")
    whole = score.read_bytes()
    score.write_bytes(whole.replace(b'"value": 0.', b'"value": 1.', 1))
    assert whole != score.read_bytes()
    shown = project.run("--", "verify", succeeds=False)
    assert f"damaged: {score.relative_to(project.folder)}: its checksum" in shown
    assert "Error in rule verify" in shown
    done = command(project, "verify", "--delete")
    assert (done.returncode, done.stdout.count("removed: ")) == (1, 3), done.stdout
    assert command(project, "verify").returncode == 0
    project.run()
    assert score.read_bytes() == whole


def test_a_missing_results_folder_is_named(project: Project) -> None:
    shutil.rmtree(project.folder / "results")
    for script in ("verify", "garbage"):
        done = command(project, script)
        assert done.returncode == 1
        assert "config/test.yaml: results: there is no folder results" in done.stderr
        assert not (project.folder / "results").exists()


def test_no_command_imports_anything_heavy(finished: Project) -> None:
    code = """
import runpy, sys
sys.path.insert(0, "scripts")
for script in ("list", "prompts", "plan", "garbage", "verify"):
    sys.argv = [f"{script}.py", "--configfile", "config/test.yaml"]
    runpy.run_path(f"scripts/{script}.py", run_name="__main__")
    heavy = {"torch", "pandas", "datasets", "transformers", "scipy"} & set(sys.modules)
    assert not heavy, (script, heavy)
print("all ran")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=finished.folder, env=finished.environment(), capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1:] == ["all ran"], done.stderr
