"""What Snakemake noted of jobs that it did not see end: it hides no work, and no run ends well without its targets."""

import base64
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from quick_engine import use_quick_engine
from workflow import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CONFIG = {
    "run": "test",
    "models": ["demo_small", "demo_medium"],
    "datasets": ["demo_arithmetic"],
    "limit": 10,
    "max_shard_size": 8,
}
EVALUATED = ("scores", "samples", "timings", "reports")
STATES: dict[str, tuple[str, ...]] = {
    "staged": ("predictions", *EVALUATED),
    "one model staged": ("staged/demo_medium@*", "predictions", *EVALUATED),
    "half scored": ("samples", "reports"),
    "weights gone": ("staged", "predictions/demo_small*", *EVALUATED),
    "half a report": ("reports/*@*/leaderboard.csv",),
}
"States that a run can be killed in, by what is not there yet."


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.create(tmp_path_factory.mktemp("finished") / "project", **CONFIG)
    use_quick_engine(project)
    project.run()
    return project


def killed(finished: Project, folder: Path, absent: Iterable[str]) -> Project:
    """A copy of a finished run without some of its files, in which Snakemake saw no job end."""
    project = finished.copy(folder)
    for pattern in absent:
        for path in project.results.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    marks = project.folder / ".snakemake/incomplete"
    for path in [path for path in project.results.rglob("*") if path.is_file()]:
        name = base64.b64encode(str(path.relative_to(project.folder)).encode()).decode()
        if len(name) < 255:  # Snakemake puts a longer name into folders
            (marks / name).write_text(json.dumps({"external_jobid": None}))
    return project


@pytest.mark.parametrize("state", STATES)
def test_a_run_after_a_kill_makes_all_that_is_missing_as_the_dry_run_says(
    finished: Project, tmp_path: Path, state: str
) -> None:
    project = killed(finished, tmp_path / "project", STATES[state])
    planned = project.planned()
    assert project.jobs(project.run()) == planned
    assert (project.results / "reports/test/leaderboard.csv").is_file()
    assert project.scores() == finished.scores()


@pytest.mark.parametrize("arguments", [(), ("--rerun-incomplete",)])
def test_so_does_one_without_a_profile(finished: Project, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    project = killed(finished, tmp_path / "project", STATES["one model staged"])
    done = project.plain("--cores", "1", *arguments)
    assert done.returncode == 0, done.stderr
    assert project.jobs(done.stdout + done.stderr) == {"stage_model": 1, "infer": 4, "score": 2, "report": 1}
    assert project.scores() == finished.scores()


def test_a_run_that_passes_over_jobs_fails_and_names_what_is_missing(finished: Project, tmp_path: Path) -> None:
    project = killed(finished, tmp_path / "project", STATES["staged"])
    for path, ours, plain in (
        ("Snakefile", "trusts_files(DAG)\n", ""),
        ("rules/infer.smk", "INPUTS.missing_staged", 'ancient(f"{RESULTS}/staged/{{model}}.json")'),
    ):
        file = project.folder / path
        assert ours in file.read_text()
        file.write_text(file.read_text().replace(ours, plain))
    output = project.run(succeeds=False)
    assert project.jobs(output) == {"stage_model": 2}
    named = output.partition("files that this run should have made are missing")[2]
    assert all(f"results/{place}" in named for place in ("reports/test@", "samples/demo_small@", "scores/demo_medium@"))
    assert "Traceback" not in output
