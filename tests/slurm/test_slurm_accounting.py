"""A cluster that keeps accounts, as most do: jobs need one, and `sacct` says what becomes of them and what they use."""

from pathlib import Path

import pytest

from shardmark.files import read_json
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
    command("scancel", cancelled := job["demo_small"])
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
    used = {
        job: told
        for file in (project.results / "slurm").glob("*.json")
        for job, told in read_json(file)["jobs"].items()
    }
    inferred = {job: told for job, told in used.items() if told["infers"]}
    assert {job: told["state"] for job, told in inferred.items()} == {
        job: "CANCELLED" if job == cancelled else "COMPLETED" for job in given
    }
    assert all(told["memory_asked"] >= 2000 and told["seconds"] > 0 and told["cpus"] > 0 for told in inferred.values())
    assert any(told["memory"] and told["cpu_seconds"] > 0 for told in inferred.values())
    page = (project.results / "reports/test/provenance.html").read_text()
    assert "demo_small, inference: 2 jobs" in page
    assert "1 x CANCELLED" in page
    assert "demo_medium, inference: 1 job," in page
