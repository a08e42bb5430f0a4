"""The demo's scores wherever Shardmark is: a clone, a folder of the user's own, a module of another Snakefile, pip.

All models and data sets of the committed config/demo.yaml, but only the first rows of each: this saves a minute.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmark.files import read_json
from shardmark.tools.init import init
from workflow import ROOT, Project

pytestmark = pytest.mark.slow
CONFIG = yaml.safe_load((ROOT / "config/demo.yaml").read_text()) | {"run": "test", "limit": 6}
PROFILE = "profiles/local"
HANDLERS = """
onstart:
    print("mine: begins")


onsuccess:
    print("mine: ends")
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone in which the run is done."""
    project = Project.create(tmp_path_factory.mktemp("clone") / "shardmark", **CONFIG)
    project.run()
    assert len(project.scores()) == len(CONFIG["models"]) * len(CONFIG["datasets"]) == 9
    return project


def own_folder(folder: Path, **config: Any) -> Project:
    """A folder that `shardmark init` made, with the same run."""
    init(folder)
    project = Project(folder)
    project.configure(**CONFIG | config)
    return project


def found(project: Project) -> dict[str, Any]:
    """The scores of a run by their digests, without what tells of the machine and the time."""
    scores = {name: json.loads(text) for name, text in project.scores().items()}
    return {
        name: {key: found[key] for key in ("metrics", "counts", "model", "dataset")} for name, found in scores.items()
    }


def state(folder: Path) -> dict[str, int]:
    """The files of a clone, without what Python and Snakemake keep there."""
    parts = (path for part in ("config", "demo", "profiles", "rules", "scripts") for path in (folder / part).rglob("*"))
    return {str(path): path.stat().st_mtime_ns for path in parts if path.is_file() and "__pycache__" not in str(path)}


def check_same(project: Project, clone: Project) -> None:
    """A run has found what the clone's has, under the same digests, and has locked the same."""
    assert found(project) == found(clone)
    locks = [read_json(each.folder / "config/benchmark.lock") for each in (project, clone)]
    assert locks[0] == locks[1]


def test_a_folder_of_ones_own_leaves_the_clone_as_it_is(tmp_path: Path, clone: Project) -> None:
    before = state(clone.folder)
    own = own_folder(tmp_path / "own")
    own.run("--snakefile", str(clone.folder / "Snakefile"), profile=PROFILE)
    check_same(own, clone)
    assert state(clone.folder) == before
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(clone.folder / "Snakefile"), "--dry-run"]
    command += ["--directory", str(own.folder), "--profile", str(own.folder / PROFILE)]
    command += ["--configfile", str(own.folder / "config/test.yaml")]
    done = subprocess.run(command, cwd=tmp_path, env=own.environment(), capture_output=True, text=True)
    assert "Nothing to be done" in done.stdout + done.stderr


def test_answers_of_a_clone_are_those_of_any_folder(tmp_path: Path, clone: Project) -> None:
    own = own_folder(tmp_path / "own", results=str(clone.results))
    jobs = own.planned("--snakefile", str(clone.folder / "Snakefile"), profile=PROFILE)
    assert jobs.keys() <= {"report"}, "of the same scores, in files of other names"


def test_a_module_runs_the_same_and_its_checks_beside_the_users_handlers(tmp_path: Path, clone: Project) -> None:
    own = own_folder(tmp_path / "own")
    wrapper = own.folder / "Snakefile"
    wrapper.write_text(wrapper.read_text().replace(str(ROOT), str(clone.folder)) + HANDLERS)
    output = own.run(profile=PROFILE)
    check_same(own, clone)
    assert "mine: begins" in output
    assert output.index("mine: ends") < output.index("report: results/reports/test/index.html")
    made = own.folder / "results/reports/test/index.html"
    assert made.is_file(), "Shardmark's own handler has published the report"


def test_a_module_that_would_move_files_is_refused(tmp_path: Path, clone: Project) -> None:
    own = own_folder(tmp_path / "own")
    named = f'module shardmark:\n    snakefile: "{clone.folder}/Snakefile"\n    prefix: "elsewhere"\n\n'
    (own.folder / "Snakefile").write_text(named + "use rule * from shardmark\n")
    assert "set `results` in its configuration instead" in own.run("-n", profile=PROFILE, succeeds=False)


def test_a_module_from_a_git_repository_needs_no_clone(
    tmp_path: Path, clone: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git is told to find GitHub's repository in a bare one here; Snakemake keeps it in its cache."""
    bare = tmp_path / "bare"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path / "work")]
    Project.create(tmp_path / "work")
    (tmp_path / "work/.gitignore").write_text("__pycache__\n")
    for words in (["init", "--quiet", "--initial-branch=main"], ["add", "--all"], ["commit", "--quiet", "-m", "all"]):
        subprocess.run([*git, *words], check=True)
    subprocess.run(["git", "clone", "--quiet", "--bare", str(tmp_path / "work"), str(bare)], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    hosted = "https://github.com/someone/shardmark"
    variables = {"COUNT": "1", "KEY_0": f"url.file://{bare}.insteadOf", "VALUE_0": hosted}
    for name, value in variables.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    own = own_folder(tmp_path / "own")
    source = f'github("someone/shardmark", path="Snakefile", commit="{commit}")'
    wrapper = own.folder / "Snakefile"
    wrapper.write_text(f"module shardmark:\n    snakefile: {source}\n\nuse rule * from shardmark\n")
    own.run(profile=PROFILE)
    check_same(own, clone)
    (score, *_) = own.scores().values()
    assert json.loads(score)["provenance"]["git_commit"] == commit
    read = 'configfile: "config/test.yaml"\n\n' + wrapper.read_text().replace("\n\n", "\n    config: config\n\n", 1)
    wrapper.write_text(read)
    command = [sys.executable, "-m", "snakemake", "--profile", PROFILE, "--dry-run"]
    done = subprocess.run(command, cwd=own.folder, env=own.environment(), capture_output=True, text=True)
    assert "Nothing to be done" in done.stdout + done.stderr


def test_what_pip_installs_runs_the_same(tmp_path: Path, clone: Project) -> None:
    """In an environment that has the pinned packages, and nothing of a clone."""
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*wheel, str(tmp_path / "dist"), str(ROOT)], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (packages,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (packages / "pins.pth").write_text(str(Path(yaml.__file__).parents[1]))
    install = [sys.executable, "-m", "pip", "--python", str(tmp_path / "venv/bin/python"), "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "--no-index", *map(str, (tmp_path / "dist").glob("*.whl"))], check=True)
    command = str(tmp_path / "venv/bin/shardmark")
    project = Project(tmp_path / "own")
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ""}

    def run(*words: str, folder: Path = project.folder) -> str:
        done = subprocess.run([command, *words], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("init", str(project.folder), folder=tmp_path)
    assert str(tmp_path / "venv") in (project.folder / "Snakefile").read_text()
    project.configure(**CONFIG)
    run("run", "--profile", "local", "--configfile", "config/test.yaml")
    check_same(project, clone)
    (score, *_) = project.scores().values()
    assert json.loads(score)["provenance"]["git_commit"] is None
    assert "demo_arithmetic" in run("list")
    assert '"requests_to_infer": 0' in run("plan", "--json", "--configfile", "config/test.yaml")
    assert "Nothing to be done" in run("run", "--profile", "local", "--configfile", "config/test.yaml", "--dry-run")
