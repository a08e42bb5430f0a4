"""What goes wrong on a real cluster, once to each job or to all of it, and the scores of a local run all the same."""

from pathlib import Path

import pytest

from slurm_cluster import Cluster, command, until
from slurm_project import PATIENCE, finish, held, is_as_local, notes, project_in, start

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
LIMIT_MB, GREED_MB = 1200, 1600


def test_jobs_that_are_cancelled_or_exceed_a_limit_are_submitted_again_with_more(
    slurm: Cluster, local: dict[str, bytes], tmp_path: Path
) -> None:
    project = project_in(tmp_path / "project", datasets=["demo_arithmetic"])
    project.edit_yaml("config/models/demo_large.yaml", slurm={"mem_mb": LIMIT_MB, "extra": "--nice=1"})
    project.edit_yaml("config/models/demo_medium.yaml", slurm={"runtime": 100})
    (project.folder / "greed").mkdir()
    (project.folder / "greed/demo_large").write_text(str(GREED_MB))
    run = start(project)
    job = {note["model"]: note["SLURM_JOB_ID"] for note in held(project, jobs=3)}
    command("scancel", job["demo_small"])
    # A time that has passed when the controller reads it is refused, and "now" has if a second ends in between.
    command("scontrol", "update", f"JobId={job['demo_medium']}", "EndTime=now+5")
    ended = {
        model: until(lambda number=number: slurm.ended(number), f"the end of the job of {model}", PATIENCE)
        for model, number in job.items()
    }
    finish(project, run)
    assert is_as_local(project.scores(), local, 3)
    assert ended["demo_small"]["JobState"] == "CANCELLED"
    assert ended["demo_medium"]["JobState"] == "TIMEOUT"
    assert "memory limit" in slurm.log(ended["demo_large"]["NodeList"])
    again = {note["model"]: slurm.job(note["SLURM_JOB_ID"]) for note in notes(project)}
    assert all(job["JobState"] == "COMPLETED" and job["JobId"] != ended[model]["JobId"] for model, job in again.items())
    assert again["demo_large"]["MinMemoryNode"] == f"{2 * LIMIT_MB}M"
    assert again["demo_large"]["Nice"] == "1"
    assert again["demo_medium"]["TimeLimit"] >= "03:20:00"  # with minutes for scoring


def test_a_job_survives_its_controller_its_node_and_its_betters(
    slurm: Cluster, local: dict[str, bytes], tmp_path: Path
) -> None:
    project = project_in(tmp_path / "project", models=["demo_small"], datasets=["demo_arithmetic"])
    run = start(project)
    (first,) = held(project)
    number, node = first["SLURM_JOB_ID"], first["SLURMD_NODENAME"]
    began = slurm.job(number)["StartTime"]

    slurm.save(number)
    slurm.kill("slurmctld")
    slurm.start("slurmctld")
    until(slurm.up, "a controller", PATIENCE)
    assert (slurm.job(number)["JobState"], slurm.job(number)["StartTime"]) == ("RUNNING", began)

    slurm.kill(node)
    until(lambda: slurm.restarted(number, 1), "the job in the queue again", PATIENCE)
    other = held(project, jobs=2)[1]["SLURMD_NODENAME"]
    assert other != node
    slurm.start(node)
    until(slurm.up, "both nodes", PATIENCE)

    better = slurm.preempt(other)
    until(lambda: slurm.restarted(number, 2), "the job in the queue once more", PATIENCE)
    command("scancel", better)
    held(project, jobs=3)

    finish(project, run)
    assert is_as_local(project.scores(), local, 1)
    assert {note["SLURM_JOB_ID"] for note in notes(project)} == {number}
    assert slurm.job(number)["JobState"] == "COMPLETED"


def test_a_job_that_is_preempted_for_good_is_submitted_again(
    slurm: Cluster, local: dict[str, bytes], tmp_path: Path
) -> None:
    project = project_in(tmp_path / "project", models=["demo_small"], datasets=["demo_arithmetic"])
    project.edit_yaml("config/models/demo_small.yaml", slurm={"partition": "cancelled"})
    run = start(project)
    (first,) = held(project)
    better = slurm.preempt(first["SLURMD_NODENAME"])
    ended = until(lambda: slurm.ended(first["SLURM_JOB_ID"]), "the end of the job", PATIENCE)
    command("scancel", better)
    finish(project, run)
    assert ended["JobState"] == "PREEMPTED"
    assert is_as_local(project.scores(), local, 1)
    assert {note["SLURM_JOB_ID"] for note in notes(project)} > {first["SLURM_JOB_ID"]}
