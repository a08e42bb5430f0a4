"""`snakemake --profile slurm` on a real cluster: the scores of a local run, whatever happens to its jobs."""

import json
import os
import shutil
import signal
import time
from itertools import combinations
from pathlib import Path

import psutil
import pytest

from slurm_cluster import Cluster, until
from slurm_project import FAST, PATIENCE, held, is_as_local, notes, project_in, start

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


def test_scores_are_those_of_a_local_run_and_devices_are_not_wasted(
    slurm: Cluster, local: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror")
    wanted = {"demo_small": 4, "demo_medium": 1, "demo_large": 3}
    project = project_in(tmp_path / "project", wanted, scratch=str(tmp_path / "scratch"))
    output = project.run(*FAST, profile="slurm")
    assert is_as_local(project.scores(), local, 3)
    assert "no node of" not in output
    (checked,) = project.results.glob("plans/nodes/*.json")  # all models go to one partition
    assert json.loads(checked.read_text())["needs"]["gpus"] is True
    given = notes(project)
    for note in given:
        assert len(note["CUDA_VISIBLE_DEVICES"].split(",")) == wanted[note["model"]]
        assert (note["HTTPS_PROXY"], note["HF_ENDPOINT"]) == ("http://proxy:3128", "http://mirror")
    jobs = {note["SLURM_JOB_ID"]: note for note in given}
    assert sorted(note["model"] for note in jobs.values()) == sorted(wanted)  # one job, and so one load, a model
    assert len([path for path in (tmp_path / "scratch").glob("*/*") if path.is_dir()]) == 3  # weights, copied once each
    mine = [job for job in slurm.jobs() if job["JobId"] in jobs]
    for job in mine:
        assert job["TresPerJob"] == f"gres:gpu:{wanted[jobs[job['JobId']]['model']]}"
        assert job["NumTasks"] == "1"
        assert job["JobName"].startswith(f"{jobs[job['JobId']]['model']}:demo_")
    for one, other in combinations(mine, 2):
        both = [set(jobs[job["JobId"]]["CUDA_VISIBLE_DEVICES"].split(",")) for job in (one, other)]
        assert one["NodeList"] != other["NodeList"] or _one_after_the_other(one, other) or both[0].isdisjoint(both[1])


def test_interrupted_run_leaves_no_job_and_goes_on_with_at_most_so_many_jobs(
    slurm: Cluster, local: dict[str, bytes], tmp_path: Path
) -> None:
    project = project_in(tmp_path / "project", models=["demo_small", "demo_medium"], datasets=["demo_arithmetic"])
    run = start(project)
    held(project)
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode != 0, output
    until(lambda: not slurm.active(), "the end of all jobs", PATIENCE)
    until(lambda: not _processes(str(project.folder)), "the end of all processes", PATIENCE)
    before = {job["JobId"] for job in slurm.jobs()}
    (project.folder / "gate").unlink()
    project.run(*FAST, "--jobs", "1", profile="slurm")
    assert is_as_local(project.scores(), local, 2)
    after = [job for job in slurm.jobs() if job["JobId"] not in before]
    assert len(after) >= 2
    assert all(_one_after_the_other(*pair) for pair in combinations(after, 2))


def test_an_interrupt_ends_jobs_that_are_asked_after_and_what_waits_to_be_submitted(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {job["JobId"] for job in slurm.jobs()}
    for name in ("sbatch", "squeue"):
        _slow(name, tmp_path / "slow")
    monkeypatch.setenv("PATH", f"{tmp_path}/slow:{os.environ['PATH']}")
    one_a_job = {"max_shard_size": 2, "max_job_cost": 0, "probe_seconds": 0}  # the probe is a job, too
    project = project_in(tmp_path / "project", models=["demo_small"], datasets=["demo_arithmetic"], **one_a_job)
    run = start(project)
    held(project)
    until(lambda: _processes(f"{tmp_path}/slow/squeue"), "a question after jobs", PATIENCE)
    for _ in range(2):
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        time.sleep(0.2)
    output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1, output
    assert "Traceback" not in output
    until(lambda: not slurm.active(), "the end of all jobs", PATIENCE)
    assert 1 <= len({job["JobId"] for job in slurm.jobs()} - before) < 8


def test_a_model_with_more_gpus_than_a_node_has_is_refused_and_not_spread_over_two(
    slurm: Cluster, tmp_path: Path
) -> None:
    before = slurm.jobs()
    project = project_in(tmp_path / "project", {"demo_small": 5}, models=["demo_small"], datasets=["demo_arithmetic"])
    output = project.run(*FAST, "--retries", "0", profile="slurm", succeeds=False)
    assert "not submitted to Slurm (1 x): sbatch: error: " in output
    assert "Requested node configuration is not available" in output
    assert not notes(project)
    assert all(job["NumNodes"] == "1" for job in slurm.jobs() if job not in before)


def test_a_cluster_that_would_forget_jobs_too_soon_says_what_to_set(slurm: Cluster, tmp_path: Path) -> None:
    project = project_in(tmp_path / "project", models=["demo_small"], datasets=["demo_arithmetic"])
    output = project.run("--slurm-init-seconds-before-status-checks", "101", profile="slurm", succeeds=False)
    assert "set it to 100: at most a third of MinJobAge" in output
    assert "Traceback" not in output
    assert not slurm.active()


def _slow(name: str, folder: Path) -> None:
    """A stand-in for one of Slurm's commands that does the same and then goes on for two seconds."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f'#!/bin/sh\n{shutil.which(name)} "$@"\nstatus=$?\nsleep 2\nexit $status\n')
    (folder / name).chmod(0o755)


def _one_after_the_other(one: dict[str, str], other: dict[str, str]) -> bool:
    """Whether a job was submitted after another's end; to the second, since Slurm knows no more."""
    return one["EndTime"] <= other["SubmitTime"] or other["EndTime"] <= one["SubmitTime"]


def _processes(folder: str) -> list[psutil.Process]:
    return [one for one in psutil.process_iter(["cmdline"]) if folder in " ".join(one.info["cmdline"] or [])]
