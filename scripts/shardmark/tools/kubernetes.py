"""Jobs on Kubernetes, through its command `kubectl`, for Snakemake's executor cluster-generic.

Snakemake's own plugin for Kubernetes assumes that jobs share no files with the submitting machine, and copies all of
them through an object store. Here weights, plans and results are on a volume that all jobs mount.
"""

import json
import os
import uuid
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from shardmark.errors import Problem, UserError
from shardmark.settings import Settings
from shardmark.tools.submission import State, Wanted, ask, job_wanted, read_file, wrap

FIX = "install kubectl, put it on PATH, and choose a cluster: `kubectl config current-context`"
GONE = "(NotFound)"
KEPT_SECONDS = 24 * 3600
"Seconds for which a finished job and its log remain available."


class KubernetesConfig(Settings):
    """profiles/kubernetes/kubernetes.yaml: the settings for a run's jobs."""

    image: str
    "The container image: its Python runs this project's .venv."
    claim: str
    "The claim of the persistent volume that contains this clone; many nodes must be able to write to it."
    mount_path: str
    "The path where jobs mount it: the clone must have the same path there as here."
    namespace: str = "default"
    "The namespace of the jobs."
    gpu: str = "nvidia.com/gpu"
    "The cluster's name for a GPU."
    service_account: str | None = None
    "The service account of the jobs."
    node_selector: dict[str, str] = {}  # noqa: RUF012
    "Labels that the jobs' nodes must have."
    tolerations: list[dict[str, Any]] = []  # noqa: RUF012
    "Taints of nodes that the jobs tolerate, as in a pod's specification."
    shared_memory_gb: PositiveInt | None = None
    "Size of /dev/shm in GiB; the container runtime's (64 MB) if null."


def read_settings(path: Path) -> KubernetesConfig:
    """The settings in a file. Raises UserError with all of its problems."""
    return read_file(KubernetesConfig, path)


def job_spec(settings: KubernetesConfig, wanted: Wanted, wrapper: Path, folder: Path) -> dict[str, Any]:
    """The Kubernetes job for one of Snakemake's: one pod, with the model's GPUs, as this user, tried once."""
    resources = {"cpu": str(wanted.cores), "memory": f"{wanted.memory_mb}M"}
    if wanted.gpus:
        resources[settings.gpu] = str(wanted.gpus)
    volumes: list[dict[str, Any]] = [{"name": "shared", "persistentVolumeClaim": {"claimName": settings.claim}}]
    mounts = [{"name": "shared", "mountPath": settings.mount_path}]
    if settings.shared_memory_gb:
        memory = {"medium": "Memory", "sizeLimit": f"{settings.shared_memory_gb}Gi"}
        volumes.append({"name": "memory", "emptyDir": memory})
        mounts.append({"name": "memory", "mountPath": "/dev/shm"})
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": os.getuid(), "runAsGroup": os.getgid()},
        "nodeSelector": settings.node_selector,
        "tolerations": settings.tolerations,
        "volumes": volumes,
        "containers": [
            {
                "name": "job",
                "image": settings.image,
                "command": ["sh", str(wrapper)],
                "workingDir": str(folder),
                "env": [{"name": "HOME", "value": "/tmp"}],
                "resources": {"requests": resources, "limits": resources},
                "volumeMounts": mounts,
            }
        ],
    }
    if wanted.minutes is not None:  # of the pod, since that of a job counts the time in the queue, too
        pod |= {"activeDeadlineSeconds": 60 * wanted.minutes}
    if settings.service_account:
        pod |= {"serviceAccountName": settings.service_account}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"shardmark-{uuid.uuid4().hex[:16]}",
            "namespace": settings.namespace,
            "labels": {"app": "shardmark"},
            "annotations": {"shardmark/job": wanted.name},
        },
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": {"app": "shardmark"}}, "spec": pod},
        },
    }


def submit(script: Path, settings_file: Path) -> str:
    """Submit one of Snakemake's job scripts; returns the job's id, NAMESPACE/NAME."""
    settings = read_settings(settings_file)
    problem = f"is not below mount_path, {settings.mount_path}: jobs would not see it"
    if not Path.cwd().is_relative_to(settings.mount_path):
        raise UserError(Problem(str(Path.cwd()), "", problem, f"put the clone on the volume, or fix {settings_file}"))
    wrapper = wrap(script.resolve(), os.environ, Path.cwd())
    spec = job_spec(settings, job_wanted(script), wrapper, Path.cwd())
    told = ask(["kubectl", "create", "--filename=-", "--output=name"], FIX, json.dumps(spec))
    name = str(spec["metadata"]["name"])
    if f"job.batch/{name}" not in told.split():
        raise UserError(Problem("kubectl create", "", told.strip(), "see its message"))
    return f"{settings.namespace}/{name}"


def state(job: str) -> tuple[State, str]:
    """The state of a job, and a warning if it is unknown: the job is then assumed to be running."""
    namespace, _, name = job.partition("/")
    told = ask(["kubectl", "get", "job", name, f"--namespace={namespace}", "--output=json"], FIX)
    try:
        conditions = json.loads(told)["status"].get("conditions") or []
    except (ValueError, KeyError, TypeError):
        return ("failed", "") if GONE in told else ("running", f"kubectl get job {job}: {told.strip()[:500]}")
    over = {condition["type"] for condition in conditions if condition["status"] == "True"}
    if "Complete" in over:
        return "success", ""
    return ("failed", "") if "Failed" in over else ("running", "")
