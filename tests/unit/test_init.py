"""A folder of the user's own, and the command `shardmark`."""

import subprocess
import sys
from pathlib import Path

import pytest

from projects import plan, problems
from shardmark import cli
from shardmark.config.load import load
from shardmark.config.merge import merge
from shardmark.tools.commands import COMMANDS
from shardmark.tools.init import init
from workflow import ROOT

SNAKEFILE = ["--snakefile", f"{ROOT}/Snakefile"]


def test_a_new_folder_can_be_planned_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = init(tmp_path / "mine")
    assert all(file.is_new for file in made)
    assert {str(file.path.relative_to(tmp_path / "mine")) for file in made} == {
        ".gitignore", "README.md", "Snakefile", "config/config.yaml", "config/datasets/my_questions.yaml",
        "config/models/my_model.yaml", "data/my_questions.jsonl", "profiles/local/config.yaml",
        "profiles/slurm/config.yaml",
    }  # fmt: skip
    assert f'"{ROOT}/Snakefile"' in (tmp_path / "mine/Snakefile").read_text()
    monkeypatch.chdir(tmp_path / "mine")
    config = merge([], []).config
    assert load(config, Path.cwd(), "config/config.yaml", []).models[0].name == "my_model"
    assert {pair.dataset.name for pair in plan(Path.cwd(), **config).pairs} == {"my_questions", "demo_arithmetic"}


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("mine")
    assert [str(file.path) for file in init(tmp_path) if not file.is_new] == [str(tmp_path / "config/config.yaml")]
    assert (tmp_path / "config/config.yaml").read_text() == "mine"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert not any(file.is_new for file in init(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_installation_itself_is_no_new_folder() -> None:
    (problem,) = problems(init, ROOT)
    assert problem.what.startswith("this is Shardmark itself")


@pytest.mark.parametrize(
    ("words", "passed_on"),
    [
        (["-n", "--config", "limit=5"], [*SNAKEFILE, "-n", "--config", "limit=5"]),
        (["--profile", "slurm"], [*SNAKEFILE, "--profile", "{folder}/profiles/slurm"]),
        (["--profile=local", "-n"], [*SNAKEFILE, f"--profile={ROOT}/profiles/local", "-n"]),
        (["--profile", "mine"], [*SNAKEFILE, "--profile", "mine"]),
        (["--profile", "dlc"], [*SNAKEFILE, "--profile", "dlc"]),
        (["-s", "other", "--cores", "1"], ["-s", "other", "--cores", "1"]),
        (["list", "--profile"], [*SNAKEFILE, "list", "--profile"]),
    ],
)
def test_run_calls_snakemake_with_the_workflow_and_profiles_where_they_are(
    words: list[str], passed_on: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "home/snakemake/dlc").mkdir(parents=True)  # of the user's, for all projects
    (tmp_path / "profiles/slurm").mkdir(parents=True)
    (tmp_path / "profiles/slurm/config.yaml").write_text("jobs: 2\n")
    assert cli.snakemake_words(words, tmp_path) == [word.format(folder=tmp_path) for word in passed_on]


def run(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); from shardmark.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True)


def test_commands_are_those_of_scripts_and_errors_name_the_nearest(tmp_path: Path) -> None:
    told = run(folder=tmp_path).stdout
    assert all(f"\n  {name} " in told for name in ("run", *COMMANDS))
    assert all((ROOT / "scripts" / script).is_file() for script, _ in COMMANDS.values())
    assert run("init", "mine", folder=tmp_path).returncode == 0
    assert run("list", "--help", folder=tmp_path).stdout.startswith("usage: shardmark list ")
    wrong = run("lst", folder=tmp_path)
    assert (wrong.returncode, wrong.stderr) == (1, "shardmark: there is no command 'lst': did you mean 'list'?\n")
