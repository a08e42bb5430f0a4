"""Jobs on Alibaba's PAI-DLC, through its command `dlc`, for Snakemake's executor cluster-generic."""

import json
import math
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from shardmark.errors import Problem, UserError
from shardmark.settings import Settings
from shardmark.tools.submission import State, Wanted, ask, job_wanted, read_file, wrap

JOB_ID = re.compile(r"\|\s*(dlc[0-9a-z]+)\s*\|")
OVER: Mapping[str, str] = {"Succeeded": "success", "Failed": "failed", "Stopped": "failed"}
"Final statuses in `dlc get job` -> Snakemake's."
GONE = "code: 404"


class DlcConfig(Settings):
    """profiles/dlc/dlc.yaml: the settings for a run's jobs."""

    workspace_id: str
    "The workspace's id, as on its page in the PAI console."
    image: str
    "The container image: its Python runs this project's .venv."
    data_sources: str
    "Ids of data sets to mount, separated by commas; one of them contains this clone, at the same path as here."
    resource_id: str | None = None
    "The resource quota; public resources if null."
    priority: PositiveInt | None = None
    "1 to 9; DLC's own default if null."
    shared_memory_gb: PositiveInt | None = None
    "Shared memory of a job in GiB; DLC's own default if null."
    extra: list[str] = []  # noqa: RUF012
    "More flags for `dlc submit pytorchjob`, such as `--vpc_id=vpc-1`."


def read_settings(path: Path) -> DlcConfig:
    """The settings in a file. Raises UserError with all of its problems."""
    return read_file(DlcConfig, path, numbers=("workspace_id",))


def submit_words(settings: DlcConfig, wanted: Wanted, wrapper: Path) -> list[str]:
    """The command line that submits a job: one worker, with the model's GPUs."""
    flags: dict[str, Any] = {
        "name": f"shardmark-{wanted.name}",
        "command": f"sh {shlex.quote(str(wrapper))}",
        "workspace_id": settings.workspace_id,
        "resource_id": settings.resource_id,
        "data_sources": settings.data_sources,
        "priority": settings.priority,
        "job_max_running_time_minutes": wanted.minutes,
        "workers": 1,
        "worker_image": settings.image,
        "worker_cpu": wanted.cores,
        "worker_gpu": wanted.gpus,
        "worker_memory": f"{math.ceil(wanted.memory_mb / 1024)}Gi",
        "worker_shared_memory": f"{settings.shared_memory_gb}Gi" if settings.shared_memory_gb else None,
    }
    given = [f"--{key}={value}" for key, value in flags.items() if value is not None]
    return ["dlc", "submit", "pytorchjob", *given, *settings.extra]


def submit(script: Path, settings_file: Path) -> str:
    """Submit one of Snakemake's job scripts; returns the job's id."""
    wrapper = wrap(script.resolve(), os.environ, Path.cwd())
    words = submit_words(read_settings(settings_file), job_wanted(script), wrapper)
    done = _dlc(words)
    found = JOB_ID.search(done)
    if found is None:
        raise UserError(Problem("dlc submit pytorchjob", "", f"gave no job id: {done.strip()}", "see its message"))
    return found[1]


def state(job: str) -> tuple[State, str]:
    """The state of a job, and a warning if it is unknown: the job is then assumed to be running."""
    text = _dlc(["dlc", "get", "job", job])
    try:
        found = str(json.loads(text)["Status"])
    except (ValueError, KeyError, TypeError):
        if GONE in text:
            return "failed", ""
        return "running", f"dlc get job {job}: {text.strip()[:500]}"
    match OVER.get(found):
        case "success":
            return "success", ""
        case "failed":
            return "failed", ""
    return "running", ""


def _dlc(words: list[str]) -> str:
    return ask(words, "install PAI-DLC's command-line client, put it on PATH, and log in with `dlc config`")
