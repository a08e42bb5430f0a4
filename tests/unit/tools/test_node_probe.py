"""A node of a Slurm cluster is checked before the first job, by a tiny job; srun is a stand-in."""

import os
import shutil
from pathlib import Path

import pytest

import projects
from shardmark import layout
from shardmark.errors import Problem
from shardmark.files import sealed
from shardmark.plan.plan import Plan
from shardmark.tools.node_check import lacks
from shardmark.tools.node_probe import node_needs, probe_nodes
from shardmark.untrusted.sandbox import require_sandbox

SRUN = """#!/bin/sh
echo "$@" >> "$FAKE_SRUN/calls"
test -e "$FAKE_SRUN/busy" && { echo "srun: error: Unable to allocate resources: Requested nodes are busy" >&2; exit 1; }
while test "${1#--}" != "$1"; do shift; done
test -n "$SLURM_JOB_ID" && exit 3
. "$FAKE_SRUN/node"
exec "$@"
"""
NOW = 1_800_000_000.0


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with srun, its calls and `node`, a script that makes this machine into the node."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    (folder / "node").touch()
    (folder / "srun").write_text(SRUN)
    (folder / "srun").chmod(0o755)
    monkeypatch.setenv("FAKE_SRUN", str(folder))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.chdir(tmp_path)
    return folder


def planned(root: Path, **models: dict[str, object]) -> Plan:
    """The plan of a run on a cluster with models of these settings."""
    for name, settings in models.items():
        weights = projects.write_weights(root.parent / f"weights_{name}", name.encode())
        projects.write_model(root, name, path=str(weights), **settings)
    projects.write_dataset(root, "sums")
    return projects.plan(root, local=False)


def probed(plan: Plan, said: list[str] | None = None, now: float = NOW) -> list[Problem]:
    return probe_nodes(plan, {"partition": "all", "qos": "low"}, (said if said is not None else []).append, lambda: now)


def calls(cluster: Path) -> list[str]:
    file = cluster / "calls"
    return file.read_text().splitlines() if file.exists() else []


def test_one_node_of_each_queue_is_checked_once_a_day(cluster: Path, tmp_path: Path) -> None:
    own = {"slurm": {"partition": "big", "extra": "--exclude=n7 --nice"}, "num_gpus": 0}
    plan = planned(tmp_path / "p", a={"num_gpus": 0}, b={"num_gpus": 0}, c=own)
    said: list[str] = []
    assert probed(plan, said) == []
    assert said == []
    first, second = calls(cluster)
    assert "--time=5 --immediate=60 --job-name=shardmark-node-check --partition=all --qos=low sh -c" in first
    assert "--partition=big --qos=low --exclude=n7 --nice sh -c" in second
    assert "--gpus" not in first + second
    assert probed(plan, now=NOW + 86_000) == []
    assert len(calls(cluster)) == 2
    assert probed(plan, now=NOW + 87_000) == []
    assert len(calls(cluster)) == 4


def test_what_the_node_lacks_is_one_list_and_is_asked_for_again(cluster: Path, tmp_path: Path) -> None:
    plan = planned(tmp_path / "p", a={"num_gpus": 1})
    weights = tmp_path / "weights_a"
    (cluster / "node").write_text(f"mv {weights} {weights}.away; export CUDA_VISIBLE_DEVICES=\n")
    try:
        found = probed(plan)
    finally:
        Path(f"{weights}.away").rename(weights)
    assert all(problem.where.startswith("node ") and problem.where.endswith(" of partition all") for problem in found)
    folder, gpu = found[:2]
    assert folder.what == f"{weights} cannot be read there"
    assert gpu.what == "no GPU is visible to a job that asks for one"
    (cluster / "node").write_text("export CUDA_VISIBLE_DEVICES=0\n")
    assert probed(plan) == []
    assert "--gpus=1" in calls(cluster)[-1]
    assert len(calls(cluster)) == 2


def test_a_node_without_this_python_is_a_problem(cluster: Path, tmp_path: Path) -> None:
    plan = planned(tmp_path / "p", a={"num_gpus": 0})
    (cluster / "node").write_text('set -- sh -c "echo shardmark-node n3; exec /nowhere/python"\n')
    (problem,) = probed(plan)
    assert problem.where == "node n3 of partition all"
    assert "does not run there: sh: " in problem.what
    assert "/nowhere/python" in problem.what


def test_where_no_node_is_to_be_had_the_run_goes_on_and_says_so(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path / "p", a={"num_gpus": 0})
    (cluster / "busy").touch()
    said: list[str] = []
    assert probed(plan, said) == []
    (line,) = said
    assert line.startswith("no node of partition all was checked (srun: error: Unable to allocate resources: Requested")
    assert layout.NODES.found(plan.results) == [], "so the next run asks again"
    monkeypatch.setenv("PATH", "/nowhere")
    assert probed(plan, said) == []
    assert "(srun: No such file or directory)" in said[1]


def test_it_can_be_turned_off(cluster: Path, tmp_path: Path) -> None:
    planned(tmp_path / "p", a={"num_gpus": 0})
    assert probed(projects.plan(tmp_path / "p", local=False, probe_seconds=0)) == []
    assert calls(cluster) == []


def test_a_damaged_memory_is_none(cluster: Path, tmp_path: Path) -> None:
    plan = planned(tmp_path / "p", a={"num_gpus": 0})
    assert probed(plan) == []
    (memory,) = layout.NODES.found(plan.results)
    memory.write_text(str(sealed({"node": "n1"})))
    assert probed(plan) == []
    assert len(calls(cluster)) == 2


def test_everything_that_jobs_need_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path / "p", a={"num_gpus": 0})
    needs = node_needs(plan, plan.models)
    results = tmp_path / "p/results"
    assert list(lacks(needs, results)) == []
    (file,) = [name for name in needs.files if name.endswith(".safetensors")]
    Path(file).write_bytes(b"cut")
    needs.packages["numpy"] = "0.1"
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    require_sandbox.cache_clear()  # another test may have found one
    found = [lack.what for lack in lacks(type(needs)(**{**_fields(needs), "sandbox": True}), tmp_path / "none")]
    assert found[0] == f"{file}: missing there, or of another size"
    assert found[1].startswith("its Python has numpy ")
    assert found[2] == f"{tmp_path}/none cannot be written there: No such file or directory"
    assert "no bwrap" in found[3]


def _fields(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__struct_fields__}  # type: ignore[attr-defined]
