"""A project for runs on the test cluster.

The cluster's GPUs are made up, so a stand-in for scripts/infer.py notes what Slurm gave the job and then infers on the
CPU. No dtype is `auto`, so that a model with GPUs has the digest, and the scores, of the same model on the CPU.
"""

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from slurm_cluster import until
from workflow import Project

FAST = ("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "20")
PATIENCE = 200.0
"Seconds that a busy machine may take to start a job."
CONFIG: dict[str, Any] = {
    "run": "test",
    "models": ["demo_small", "demo_medium", "demo_large"],
    "datasets": ["demo_arithmetic", "demo_grammar"],
    "limit": 16,
    "max_shard_size": 8,
    "dtype": "float32",
}
STARTED: list["subprocess.Popen[str]"] = []
"The runs of a test."
STAND_IN = '''
"""Notes what a job was given, waits while there is a gate, then runs the real command on the CPU."""

import json, os, sys, time
from pathlib import Path

words = sys.argv[1:]
place = words.index("--model") + 1
record = json.loads(Path(words[place]).read_text())
names = ("SLURM_JOB_ID", "SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES", "HTTPS_PROXY", "HF_ENDPOINT")
facts = {name: os.environ.get(name, "") for name in names}
notes = Path("notes")
notes.mkdir(exist_ok=True)
facts |= {"model": record["name"], "begin": time.time()}
note = notes / f"{os.getpid()}-{time.time_ns()}.json"
note.with_suffix(".new").write_text(json.dumps(facts))
os.replace(note.with_suffix(".new"), note)
record["settings"]["num_gpus"] = 0
copy = Path("records", Path(words[place]).name)
copy.parent.mkdir(exist_ok=True)
beside = copy.with_suffix(f".{os.getpid()}")
beside.write_text(json.dumps(record))
os.replace(beside, copy)
words[place] = str(copy)
greed = Path("greed", record["name"])
taken = b"x" * (int(greed.read_text()) << 20) if greed.exists() else b""
while Path("gate").exists():
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
    """What each inference command was given, in the order they began."""
    found = [json.loads(file.read_text()) for file in (project.folder / "notes").glob("*.json")]
    return sorted(found, key=lambda note: note["begin"])


def start(project: Project, *arguments: str) -> "subprocess.Popen[str]":
    """Start a run on the cluster, its jobs held by a gate."""
    (project.folder / "gate").touch()
    STARTED.append(project.start(*FAST, *arguments, profile="slurm"))
    return STARTED[-1]


def end_runs() -> None:
    """Kill what a test that failed has left running, before it submits more jobs."""
    while STARTED:
        with STARTED.pop() as run, suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)


def held(project: Project, jobs: int = 1) -> list[dict[str, Any]]:
    """The notes of so many jobs that wait at the gate."""
    return until(lambda: found if len(found := notes(project)) >= jobs else None, f"{jobs} jobs that infer", PATIENCE)


def finish(project: Project, run: "subprocess.Popen[str]") -> str:
    """Open the gate; what the run printed, once it has ended well."""
    (project.folder / "gate").unlink(missing_ok=True)
    output, _ = run.communicate(timeout=500)
    assert run.returncode == 0, output
    return output


def is_as_local(scores: dict[str, bytes], local: dict[str, bytes], models: int) -> bool:
    """Whether these are the scores of a local run, for so many of its models."""
    assert len({name.partition("@")[0] for name in scores}) == models
    return _without_place(scores) == _without_place({name: local[name] for name in scores})


def _without_place(scores: dict[str, bytes]) -> dict[str, Any]:
    """Scores without what they note of GPUs and of Slurm, and without their checksum: the rest must be the same."""
    read = {name: json.loads(content, object_hook=_placeless) for name, content in scores.items()}
    return {name: {key: value for key, value in found.items() if key != "sha256"} for name, found in read.items()}


def _placeless(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in ("num_gpus", "slurm")}
