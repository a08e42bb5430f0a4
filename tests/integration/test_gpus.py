"""Eight GPUs that are not there: jobs of four run two at a time, each model is loaded once for each set of devices.

An nvidia-smi lists the GPUs, and a module in the place of transformers answers; all else is real. Its jobs wait for
each other at first, so that as many as should run at once do so.
"""

import json
import os
import re
from pathlib import Path

import pytest

import fake_gpus
from stand_in import write_stand_in
from workflow import Project

STAND_IN = """
import os, sys, time
from pathlib import Path

from shardmark.engine.backend import Backend
from shardmark.records.prediction import Generated

notes = Path(os.environ["TEST_NOTES"])
gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")


def note(**what):
    import json
    with open(notes / f"{os.getpid()}.jsonl", "a") as file:
        file.write(json.dumps({"gpus": gpus.split(","), **what}) + "\\n")


def read(path):
    try:
        return path.read_text()
    except FileNotFoundError:  # its shard has just ended
        return ""


class Meeting(Backend):
    device_names = ["a stand-in"] * 4

    def __init__(self, record, staged, beat):
        note(loaded=record.name)
        self.model = record.name

    def answer(self, requests):
        here, met = notes / f"{os.getpid()}.now", notes / f"{self.model}.met"
        here.with_suffix(".new").write_text(gpus)
        here.with_suffix(".new").rename(here)
        while not met.exists():
            if len(list(notes.glob("*.now"))) >= int(os.environ["TEST_TOGETHER"]):
                met.touch()
            time.sleep(0.01)
        note(model=self.model, now=[text for path in notes.glob("*.now") if (text := read(path))])
        here.unlink()
        yield [Generated(id=key, text="", tokens=0, end="eos", cut=0) for key in requests]


open_backend = Meeting
"""
UUIDS = [f"GPU-{number}{number}" for number in range(8)]
CONFIG = {
    "run": "test",
    "models": ["one", "two"],
    "datasets": ["demo_arithmetic", "demo_strings"],
    "limit": 40,
    "max_shard_size": 16,
}


class GpuProject(Project):
    """A project on a machine with the GPUs that nvidia-smi lists."""

    def environment(self) -> dict[str, str]:
        """What the test has set, CUDA_VISIBLE_DEVICES too."""
        return dict(os.environ)

    def notes(self, what: str) -> list[dict[str, list[str]]]:
        """What the models have noted."""
        lines = (line for path in sorted(self.folder.glob("notes/*.jsonl")) for line in path.read_text().splitlines())
        return [note for note in map(json.loads, lines) if what in note]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuProject:
    project = GpuProject.create(tmp_path / "project", **CONFIG)
    for name in ("one", "two"):
        model = {"path": f"demo/models/{'small' if name == 'one' else 'medium'}", "num_gpus": 4, "cpus": 1}
        (project.folder / f"config/models/{name}.yaml").write_text(json.dumps(model))
    (project.folder / "notes").mkdir()
    write_stand_in(tmp_path / "stand_in", STAND_IN)
    fake_gpus.nvidia_smi(tmp_path, monkeypatch, UUIDS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand_in"))
    monkeypatch.setenv("TEST_NOTES", str(project.folder / "notes"))
    monkeypatch.setenv("SHARDMARK_DEVICE_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return project


@pytest.mark.slow
@pytest.mark.parametrize(("together", "config"), [(2, ()), (1, ("max_num_workers=1",))])
def test_so_many_jobs_run_at_once_as_gpus_or_settings_allow_and_each_loads_once(
    project: GpuProject, monkeypatch: pytest.MonkeyPatch, together: int, config: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TEST_TOGETHER", str(together))
    output = project.run("--cores", "8", "--until", "infer", *(("--config", *config) if config else ()))
    order = re.findall(r"^Job \d+: infer (\w+)@", project.told(output), re.MULTILINE)
    assert order
    assert order == sorted(order)  # whichever is staged first
    loads, shards = project.notes("loaded"), project.notes("model")
    assert len(shards) == len(project.trailers()) >= 8
    assert sorted(str(note["loaded"]) for note in loads) == ["one"] * together + ["two"] * together
    check_devices(shards, together)


def check_devices(shards: list[dict[str, list[str]]], together: int) -> None:
    """Each shard has four GPUs, none of which another has at the same time; so many shards run at once, at most."""
    assert max(len(note["now"]) for note in shards) == together
    for note in shards:
        assert len(note["gpus"]) == 4
        used = ",".join(note["now"]).split(",")
        assert len(set(used)) == len(used)
        assert set(used) <= set(UUIDS)


@pytest.mark.slow
def test_two_runs_on_one_machine_share_no_gpu(project: GpuProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """One names the GPUs by their indices, the other takes all it finds; each would run two jobs at once."""
    other = GpuProject(project.copy(project.folder.parent / "other").folder)
    monkeypatch.setenv("TEST_TOGETHER", "2")
    runs = [project.start("--cores", "8", "--until", "infer")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,6,5,4,3,2,1,0")
    runs.append(other.start("--cores", "8", "--until", "infer"))
    outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n\n".join(outputs)
    shards = project.notes("model")
    assert len(shards) == len(project.trailers()) + len(other.trailers())
    check_devices(shards, 2)


def test_more_gpus_than_are_visible_are_an_error_of_the_plan(
    project: GpuProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    output = project.run(succeeds=False)
    for name in ("one", "two"):
        assert f"config/models/{name}.yaml: num_gpus: model {name} needs 4 GPUs, but this machine has 2" in output
    assert "num_gpus: at most 2" in output
    assert not (project.folder / "results/logs").exists()
