"""The commands of profiles/kubernetes: the specification of a job, and what they make of the cluster's answers."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fake_scheduler import install
from projects import problems, write_yaml
from shardmark.tools.kubernetes import KubernetesConfig, job_spec, read_settings, state, submit
from shardmark.tools.submission import wanted
from slurm_cluster import until

PROFILE = Path(__file__).parents[3] / "profiles/kubernetes"
GROUP = {"groupid": "m@1-0", "threads": 4, "resources": {"gpu": 2, "mem_mb": 8100, "runtime": 30}}


def settings(**changes: Any) -> KubernetesConfig:
    return KubernetesConfig(image="registry/x:1", claim="shared", mount_path="/shared", **changes)


def script_in(folder: Path, end: str = "") -> Path:
    """A job script as Snakemake writes it."""
    script = folder / "snakejob.infer.1.sh"
    script.write_text(f'#!/bin/sh\n# properties = {json.dumps(GROUP)}\necho "$HF_ENDPOINT" > answer\n{end}\n')
    return script


def test_the_specification_of_a_job() -> None:
    spec = job_spec(settings(), wanted(GROUP), Path("/shared/job.sh"), Path("/shared/clone"))
    assert (spec["apiVersion"], spec["kind"], spec["spec"]["backoffLimit"]) == ("batch/v1", "Job", 0)
    assert spec["metadata"]["annotations"] == {"shardmark/job": "m@1-0"}
    pod = spec["spec"]["template"]["spec"]
    assert (pod["restartPolicy"], pod["activeDeadlineSeconds"]) == ("Never", 1800)
    assert pod["securityContext"] == {"runAsUser": os.getuid(), "runAsGroup": os.getgid()}
    assert pod["volumes"] == [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}]
    (container,) = pod["containers"]
    assert container["command"] == ["sh", "/shared/job.sh"]
    assert (container["image"], container["workingDir"]) == ("registry/x:1", "/shared/clone")
    assert container["volumeMounts"] == [{"name": "shared", "mountPath": "/shared"}]
    resources = {"cpu": "4", "memory": "8100M", "nvidia.com/gpu": "2"}
    assert container["resources"] == {
        "requests": resources,
        "limits": resources,
    }  # for GPUs, both must be there and equal


def test_what_a_cluster_may_ask_for_besides() -> None:
    score = {"rule": "score", "threads": 1, "resources": {"mem_mb": 4000, "gpu": 0}}
    toleration = {"key": "gpu", "operator": "Exists"}
    more = settings(
        service_account="me",
        node_selector={"zone": "a"},
        tolerations=[toleration],
        shared_memory_gb=8,
        gpu="amd.com/gpu",
    )
    pod = job_spec(more, wanted(score), Path("/shared/job.sh"), Path("/shared"))["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["nodeSelector"], pod["tolerations"]) == ("me", {"zone": "a"}, [toleration])
    assert pod["volumes"][1] == {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}
    assert pod["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "4000M"}
    assert "activeDeadlineSeconds" not in pod
    more = job_spec(settings(gpu="amd.com/gpu"), wanted(GROUP), Path("/j"), Path("/"))["spec"]["template"]["spec"]
    assert more["containers"][0]["resources"]["limits"]["amd.com/gpu"] == "2"


def test_a_job_is_submitted_followed_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = install("kubectl", tmp_path / "cluster", monkeypatch.setenv)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror")
    file = write_yaml(
        tmp_path / "k.yaml", {"image": "i", "claim": "c", "mount_path": str(tmp_path), "namespace": "team"}
    )
    job = submit(script_in(tmp_path), file)
    assert job.startswith("team/shardmark-")
    until(lambda: state(job) == ("success", ""), "the end of the job")
    assert (tmp_path / "answer").read_text() == "http://mirror\n"
    job = submit(script_in(tmp_path, "exit 3"), file)
    until(lambda: state(job) == ("failed", ""), "the end of the job")
    job = submit(script_in(tmp_path, "sleep 600"), file)
    assert state(job) == ("running", "")
    subprocess.run([PROFILE / "cancel.sh", job], check=True)
    until(lambda: state(job) == ("failed", ""), "the end of the job")
    (cluster / "bin/kubectl").write_text("#!/bin/sh\necho 'Unable to connect to the server'\n")
    assert state(job) == ("running", f"kubectl get job {job}: Unable to connect to the server")
    assert problems(submit, script_in(tmp_path), file)[0].what == "Unable to connect to the server"


def test_what_is_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = PROFILE / "kubernetes.yaml"
    assert {problem.key for problem in problems(read_settings, file)} == {"image", "claim", "mount_path"}
    monkeypatch.chdir(tmp_path)
    file = write_yaml(tmp_path / "k.yaml", {"image": "i", "claim": "c", "mount_path": "/elsewhere"})
    assert "is not below mount_path" in problems(submit, script_in(tmp_path), file)[0].what
