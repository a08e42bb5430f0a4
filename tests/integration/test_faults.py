"""Killed runs, damaged files, full disks: nothing is lost, nothing wrong is believed."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from quick_engine import use_quick_engine, use_quick_scoring
from requirements_check import need
from shardmark.store.partials import read_partial
from workflow import Project

pytestmark = pytest.mark.slow
CONFIG = {
    "run": "test",
    "models": ["demo_small"],
    "datasets": ["demo_grammar", "demo_arithmetic"],
    "limit": 60,
    "batch_size": 1,
    "max_shard_size": 32,
}


def kill_within_a_shard(project: Project) -> None:
    """Start a run, and kill Snakemake and the worker while a shard has some of its answers and not all.

    The worker is stopped first, and then looked at: a shard may have ended between the look and the kill.
    """
    process = project.start()
    deadline = time.monotonic() + 120
    while not (worker := stopped_within_a_shard(project.folder / "results")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    os.kill(worker, signal.SIGKILL)  # stopped, it cannot see that its run is over


def stopped_within_a_shard(results: Path) -> int | None:
    """The worker that has answered a part of a shard, stopped; None, and nothing stopped, if there is none."""
    for partial in results.rglob("*.partial"):
        worker = int(partial.stem.rpartition("-")[2])
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGSTOP)
            if read_partial(partial) and not partial.with_name(f"{partial.name.partition('.')[0]}.jsonl").exists():
                return worker
            os.kill(worker, signal.SIGCONT)
    return None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run that nothing happens to."""
    project = quick(tmp_path_factory.mktemp("undisturbed") / "project")
    project.run()
    return project


def quick(folder: Path, **config: Any) -> Project:
    """A project whose runs load no model."""
    project = Project.create(folder, **CONFIG | config)
    use_quick_engine(project)
    return project


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run([need("mount"), "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """With the real engine."""
    undisturbed = Project.create(tmp_path / "undisturbed", **CONFIG)
    use_quick_scoring(undisturbed)
    project = undisturbed.copy(tmp_path / "killed")
    undisturbed.run()
    kill_within_a_shard(project)
    project.run("--unlock")
    project.run()
    trailers = project.trailers().values()
    assert sum(trailer["reused"] for trailer in trailers) > 0
    assert sum(trailer["reused"] + trailer["inferred"] for trailer in trailers) == 120
    assert project.scores() == undisturbed.scores()
    assert not list(project.folder.rglob("*.partial"))


def test_a_damaged_prediction_file_is_named_put_aside_and_inferred_again(tmp_path: Path, undisturbed: Project) -> None:
    project = undisturbed.copy(tmp_path / "damaged")
    path = next(file for file in project.trailers() if file.parent.name == "demo_grammar")
    lines = path.read_text().splitlines()
    prediction = json.loads(lines[0])
    prediction["logprobs"][0] += 100
    path.write_text("\n".join([json.dumps(prediction), *lines[1:]]) + "\n")
    assert project.planned() == {}  # it has been scored, and is not looked at
    project.edit_yaml("config/datasets/demo_grammar.yaml", metrics=["accuracy"], version=2)
    output = project.run()
    assert path.name in output
    assert "not a complete prediction file" in output
    assert project.jobs(output) == {"infer": 1, "score": 1, "report": 1}
    assert all(s["logprobs"][0] < 0 for (_, name, _), s in project.samples().items() if name == "demo_grammar")
    assert list((project.folder / "results/damaged").rglob(path.name))


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_space(small_disk: Path, undisturbed: Project) -> None:
    project = quick(small_disk.parent / "project", results=str(small_disk / "results"))
    project.run("-n")
    filler = small_disk / "filler"
    space = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    filler.write_bytes(b"\0" * (space - 16 * 4096))
    output = project.run(succeeds=False)
    assert "No space left on device" in output
    assert "free some disk space" in output
    assert "Traceback" not in output
    filler.unlink()
    project.run()
    assert project.scores() == undisturbed.scores()
    assert project.samples() == undisturbed.samples()


def test_a_read_only_results_folder_is_a_clear_error(small_disk: Path) -> None:
    project = Project.create(small_disk.parent / "project", **CONFIG, results=str(small_disk / "results"))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    output = project.run(succeeds=False)
    assert "Read-only file system" in output
    assert "results" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("arguments", [(), ("-n",)])
def test_a_read_only_clone_is_a_clear_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    project = Project.create(tmp_path / "project", **CONFIG, results=str(tmp_path / "results"))
    subprocess.run([need("mount"), "--bind", project.folder, project.folder], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", project.folder], check=True)
    try:
        output = project.run(*arguments, succeeds=False)
    finally:
        subprocess.run(["umount", "--lazy", project.folder], check=True)
    assert f"{project.folder}/.snakemake: Read-only file system; Snakemake keeps" in output
    assert "Traceback" not in output


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_MODULES_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc/nowhere")  # where not even root can make a folder
    project = Project.create(tmp_path / "project", **CONFIG | {"limit": 4, "datasets": ["demo_grammar"]})
    output = project.run()
    assert "Traceback" not in output
    assert "results/reports/test/index.html" in output.splitlines()[-1]


def test_clocks_that_are_wrong_change_nothing(tmp_path: Path, undisturbed: Project) -> None:
    project = undisturbed.copy(tmp_path / "skewed")
    files = [path for path in sorted(project.folder.rglob("*")) if path.is_file()]
    for number, path in enumerate(files):
        years = (number % 5 - 2) * 365 * 86400
        os.utime(path, (time.time() + years, time.time() + years), follow_symlinks=False)
    assert project.planned() == {}


def test_two_runs_at_once_in_one_results_folder_do_not_disturb_each_other(tmp_path: Path, undisturbed: Project) -> None:
    shared = str(tmp_path / "results")
    projects = [quick(tmp_path / name, results=shared) for name in ("one", "two")]
    runs = [project.start() for project in projects]
    outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n\n".join(outputs)
    assert projects[0].scores() == undisturbed.scores()
    assert projects[0].samples() == undisturbed.samples()
