"""The commands of profiles/dlc: what they ask of the service, and what they make of its answers."""

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fake_scheduler import install
from projects import problems, write_yaml
from shardmark.tools.dlc import DlcConfig, read_settings, state, submit, submit_words
from shardmark.tools.submission import job_wanted, wanted, wrap
from slurm_cluster import until

PROFILE = Path(__file__).parents[3] / "profiles/dlc"
SETTINGS = {"workspace_id": 123, "image": "registry/x:1", "data_sources": "d-1,d-2"}
GROUP = {"groupid": "m-0", "threads": 4, "resources": {"gpu": 2, "mem_mb": 8100, "runtime": 30}}


def script_in(folder: Path, properties: dict[str, Any]) -> Path:
    """A job script as Snakemake writes it."""
    script = folder / "snakejob.infer.1.sh"
    script.write_text(f'#!/bin/sh\n# properties = {json.dumps(properties)}\necho "$HF_ENDPOINT" > answer\n')
    return script


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stand-in for the service, whose command is on PATH."""
    return install("dlc", tmp_path / "dlc", monkeypatch.setenv)


def test_a_job_asks_for_what_its_model_needs() -> None:
    settings = DlcConfig(
        workspace_id="7",
        image="i",
        data_sources="d-1",
        resource_id="quota1",
        priority=5,
        shared_memory_gb=64,
        extra=["--vpc_id=v"],
    )
    assert submit_words(settings, wanted(GROUP), Path("/a b/job.sh")) == [
        *("dlc", "submit", "pytorchjob", "--name=shardmark-m-0", "--command=sh '/a b/job.sh'", "--workspace_id=7"),
        *("--resource_id=quota1", "--data_sources=d-1", "--priority=5", "--job_max_running_time_minutes=30"),
        *("--workers=1", "--worker_image=i", "--worker_cpu=4", "--worker_gpu=2", "--worker_memory=8Gi"),
        *("--worker_shared_memory=64Gi", "--vpc_id=v"),
    ]
    score = {"rule": "score", "threads": 1, "resources": {"mem_mb": 4000}}
    words = submit_words(DlcConfig(workspace_id="7", image="i", data_sources="d-1"), wanted(score), Path("/job.sh"))
    assert "--worker_gpu=0" in words
    assert not [word for word in words if word.startswith(("--resource_id", "--priority", "--job_max"))]


def test_a_job_gets_proxies_and_hub_variables_in_a_file_that_only_its_user_reads(tmp_path: Path) -> None:
    script = script_in(tmp_path, GROUP)
    environment = {"HF_TOKEN": "it's", "https_proxy": "http://p", "NO_PROXY": "x", "PATH": "/bin", "SECRET": "s"}
    wrapper = wrap(script, environment, Path("/clone"))
    assert stat.S_IMODE(wrapper.stat().st_mode) == 0o600
    lines = wrapper.read_text().splitlines()
    assert lines[1:4] == ["export HF_TOKEN='it'\"'\"'s'", "export NO_PROXY=x", lines[3]]
    assert lines[3].startswith("export SNAKEMAKE_PROFILE=/")
    assert lines[4:] == ["export https_proxy=http://p", f"cd /clone && exec sh {script}"]


def test_a_job_is_submitted_followed_and_stopped(
    service: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror")
    write_yaml(tmp_path / "dlc.yaml", SETTINGS)
    job = submit(script_in(tmp_path, GROUP), tmp_path / "dlc.yaml")
    until(lambda: state(job) == ("success", ""), "the end of the job")
    assert (tmp_path / "answer").read_text() == "http://mirror\n"
    script = script_in(tmp_path, GROUP)
    script.write_text(script.read_text() + "sleep 600\n")
    job = submit(script, tmp_path / "dlc.yaml")
    assert state(job) == ("running", "")
    subprocess.run([PROFILE / "cancel.sh", job], check=True)
    until(lambda: state(job) == ("failed", ""), "the end of the job")
    assert state("dlcnone") == ("failed", "")


def test_a_service_that_does_not_answer_is_asked_again(service: Path) -> None:
    (service / "bin/dlc").write_text("#!/bin/sh\necho '[FAILED] code: 503, busy'\n")
    assert state("dlc1") == ("running", "dlc get job dlc1: [FAILED] code: 503, busy")


def test_what_is_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PROFILE / "dlc.yaml"
    assert {problem.key for problem in problems(read_settings, settings)} == {"workspace_id", "image", "data_sources"}
    write_yaml(tmp_path / "dlc.yaml", SETTINGS | {"piority": 1})
    assert problems(read_settings, tmp_path / "dlc.yaml")[0].key == "piority"
    (tmp_path / "x.sh").write_text("echo\n")
    assert "not a job script" in problems(job_wanted, tmp_path / "x.sh")[0].what
    monkeypatch.setenv("PATH", str(tmp_path))
    assert problems(state, "dlc1")[0].what == "there is no such command"
