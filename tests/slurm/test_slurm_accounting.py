"""A cluster that keeps accounts, as most do: jobs are asked after by `sacct`, and need an account."""

from pathlib import Path

import pytest

from slurm_cluster import ACCOUNT, Cluster, command, until
from slurm_project import PATIENCE, finish, held, is_as_local, notes, project_in, start

ACCOUNTING = True
pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


def test_a_cancelled_job_is_submitted_again_to_the_account(
    slurm: Cluster, local: dict[str, bytes], tmp_path: Path
) -> None:
    project = project_in(tmp_path / "project", models=["demo_small", "demo_medium"], datasets=["demo_arithmetic"])
    defaults = {"slurm_account": ACCOUNT, "slurm_partition": "gpu", "mem_mb": 2000}
    project.edit_yaml("profiles/slurm/config.yaml", **{"default-resources": defaults})
    project.edit_yaml("config/models/demo_medium.yaml", slurm={"partition": "cancelled"})
    run = start(project, "--slurm-status-command", "sacct")
    job = {note["model"]: note["SLURM_JOB_ID"] for note in held(project, jobs=2)}
    command("scancel", job["demo_small"])
    until(lambda: slurm.ended(job["demo_small"]), "the end of the job", PATIENCE)
    finish(project, run)
    assert is_as_local(project.scores(), local, 2)
    given = {note["SLURM_JOB_ID"]: note["model"] for note in notes(project)}
    assert sorted(given.values()) == ["demo_medium", "demo_small", "demo_small"]
    words = ("--noheader", "--parsable2", "--allocations", "--format=account,partition,state")
    table = command("sacct", *words, f"--jobs={','.join(given)}")
    assert sorted(line.split("|") for line in table.splitlines()) == [
        [ACCOUNT, "cancelled", "COMPLETED"],
        [ACCOUNT, "gpu", "CANCELLED by 0"],
        [ACCOUNT, "gpu", "COMPLETED"],
    ]
