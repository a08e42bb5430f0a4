"""`snakemake --profile slurm` on a real cluster: the scores of a local run, whatever happens to its jobs.

The GPUs are made up, so a stand-in for scripts/infer.py notes what Slurm gave the job and then infers on the CPU. No
dtype is `auto`, so that a model with GPUs has the digest, and the scores, of the same model on the CPU.
"""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from slurm_cluster import Cluster, command, until
from workflow import Project

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
FAST = ("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "10")
CONFIG: dict[str, Any] = {
    "run": "test",
    "models": ["demo_small", "demo_medium"],
    "datasets": ["demo_arithmetic", "demo_grammar"],
    "limit": 16,
    "max_shard_size": 8,
    "dtype": "float32",
}
STAND_IN = '''
"""Notes what a job was given, then runs the real command on the CPU."""

import json, os, sys, time
from pathlib import Path

words = sys.argv[1:]
place = words.index("--model") + 1
record = json.loads(Path(words[place]).read_text())
names = ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES", "HTTPS_PROXY", "HF_ENDPOINT")
facts = {name: os.environ.get(name, "") for name in names}
notes = Path("notes")
notes.mkdir(exist_ok=True)
facts |= {"model": record["name"], "begin": time.time()}
note = notes / f"{os.getpid()}-{time.time_ns()}.json"
note.write_text(json.dumps(facts))
record["settings"]["num_gpus"] = 0
copy = Path("records", Path(words[place]).name)
copy.parent.mkdir(exist_ok=True)
beside = copy.with_suffix(f".{os.getpid()}")
beside.write_text(json.dumps(record))
os.replace(beside, copy)
words[place] = str(copy)
gate = Path("gate")
while gate.exists():
    time.sleep(0.05)
os.execv(sys.executable, [sys.executable, str(Path(__file__).with_name("infer_for_real.py")), *words])
'''


def project_in(folder: Path, gpus: dict[str, int] | None = None, **changes: Any) -> Project:
    """A project whose jobs note what they were given, with GPUs for some models."""
    project = Project.create(folder, **CONFIG | changes)
    scripts = project.folder / "scripts"
    (scripts / "infer.py").rename(scripts / "infer_for_real.py")
    (scripts / "infer.py").write_text(STAND_IN)
    for model, count in (gpus or {}).items():
        project.edit_yaml(f"config/models/{model}.yaml", num_gpus=count)
    return project


def notes(project: Project) -> list[dict[str, Any]]:
    """What each inference command was given."""
    return [json.loads(file.read_text()) for file in (project.folder / "notes").glob("*.json")]


def without_gpus(scores: dict[str, bytes]) -> dict[str, Any]:
    """Scores without the number of GPUs that they note, and the checksum of it all: the rest must not depend on it."""
    drop = lambda found: {key: value for key, value in found.items() if key != "num_gpus"}  # noqa: E731
    read = {name: json.loads(content, object_hook=drop) for name, content in scores.items()}
    return {name: {key: value for key, value in found.items() if key != "sha256"} for name, found in read.items()}


def start(project: Project) -> "subprocess.Popen[str]":
    """Start a run on the cluster, its jobs held by a gate."""
    (project.folder / "gate").touch()
    return project.start(*FAST, profile="slurm")


def held(project: Project) -> dict[str, Any]:
    """The note of a job that waits at the gate."""
    return until(lambda: notes(project), "a job that infers")[0]


def finish(project: Project, run: "subprocess.Popen[str]") -> str:
    """Open the gate; what the run printed, once it has ended well."""
    (project.folder / "gate").unlink(missing_ok=True)
    output, _ = run.communicate(timeout=400)
    assert run.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The scores of a local run, without GPUs."""
    project = Project.create(tmp_path_factory.mktemp("local") / "project", **CONFIG)
    project.run()
    return project.scores()


def test_scores_are_those_of_a_local_run_and_devices_are_not_wasted(
    slurm: Cluster, local: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror")
    project = project_in(tmp_path / "project", {"demo_small": 4, "demo_medium": 1})
    project.run(*FAST, profile="slurm")
    assert without_gpus(project.scores()) == without_gpus(local)
    given = notes(project)
    wanted = {"demo_small": 4, "demo_medium": 1}
    for note in given:
        assert len(note["CUDA_VISIBLE_DEVICES"].split(",")) == wanted[note["model"]]
        assert (note["HTTPS_PROXY"], note["HF_ENDPOINT"]) == ("http://proxy:3128", "http://mirror")
    jobs = {note["SLURM_JOB_ID"]: note["model"] for note in given}
    assert sorted(jobs.values()) == ["demo_medium", "demo_small"]  # one job, and so one load, a model
    for job in slurm.jobs():
        if job["JobId"] in jobs:
            assert job["TresPerJob"] == f"gres:gpu:{wanted[jobs[job['JobId']]]}"
            assert job["NumTasks"] == "1"


@pytest.mark.slow
def test_cancelled_job_is_submitted_again(slurm: Cluster, local: dict[str, bytes], tmp_path: Path) -> None:
    project = project_in(tmp_path / "project")
    run = start(project)
    first = held(project)["SLURM_JOB_ID"]
    command("scancel", first)
    finish(project, run)
    assert project.scores() == local
    assert first not in {job["JobId"] for job in slurm.jobs() if job["JobState"] == "COMPLETED"}


@pytest.mark.slow
def test_interrupted_run_leaves_no_job_and_no_worker(slurm: Cluster, local: dict[str, bytes], tmp_path: Path) -> None:
    project = project_in(tmp_path / "project")
    run = start(project)
    held(project)
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=120)
    assert run.returncode != 0, output
    until(lambda: not slurm.active(), "the end of all jobs")
    here = str(project.folder)
    until(
        lambda: not [p for p in psutil.process_iter(["cmdline"]) if here in " ".join(p.info["cmdline"] or [])], "none"
    )
    (project.folder / "gate").unlink()
    project.run(*FAST, profile="slurm")
    assert project.scores() == local
