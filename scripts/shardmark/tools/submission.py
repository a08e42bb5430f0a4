"""The common part of the schedulers that Snakemake's executor cluster-generic submits to.

A job there inherits no environment: the variables that it needs are written into a script beside Snakemake's own, which
only this user may read, since proxies and tokens are among them.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from shardmark.config.base import S, validate
from shardmark.config.yaml_files import read_yaml
from shardmark.errors import Problem, UserError
from shardmark.installation import INSTALLATION

JOB_PROFILE = Path(INSTALLATION) / "profiles/job"
PROPERTIES = re.compile(r"^# properties = (.*)$", re.MULTILINE)
PASSED = re.compile(
    r"HF_\w+|HUGGING_FACE_\w+|TRANSFORMERS_\w+|SHARDMARK_\w+|(https?|no|all)_proxy|SSL_CERT_\w+", re.IGNORECASE
)
"Variables that are passed on to jobs."
ASK_SECONDS = 60
State = Literal["running", "success", "failed"]


class Wanted(NamedTuple):
    """The requirements of a job, or a group of jobs, that Snakemake notes in its script."""

    name: str
    "The name of its group, or else of its rule."
    cores: int
    memory_mb: int
    gpus: int
    minutes: int | None
    "The time limit; None for no limit."


def read_file(kind: type[S], path: Path, numbers: Collection[str] = ()) -> S:
    """The settings in a file; values of `numbers` may be numbers and become text. Raises UserError with all faults."""
    problems: list[Problem] = []
    values = read_yaml(path, str(path), problems)
    if isinstance(values, dict):
        values |= {key: str(values[key]) for key in numbers if values.get(key)}
    settings = None if problems else validate(kind, values, str(path), problems)
    if settings is None:
        raise UserError(problems)
    return settings


def job_wanted(script: Path) -> Wanted:
    """The requirements in one of Snakemake's job scripts. Raises UserError."""
    found = PROPERTIES.search(script.read_text())
    if found is None:
        raise UserError(Problem(str(script), "", "is not a job script of Snakemake", "let Snakemake call this command"))
    return wanted(json.loads(found[1]))


def wanted(properties: dict[str, Any]) -> Wanted:
    """The requirements in Snakemake's properties of a job."""
    resources = properties["resources"]
    minutes = resources.get("runtime")
    return Wanted(
        name=str(properties.get("groupid") or properties["rule"]),
        cores=int(properties["threads"]),
        memory_mb=int(resources["mem_mb"]),
        gpus=int(resources.get("gpu", 0)),
        minutes=None if minutes is None else int(minutes),
    )


def wrap(script: Path, environment: Mapping[str, str], folder: Path) -> Path:
    """A script beside Snakemake's that sets the environment that a job needs, and then runs Snakemake's."""
    given = {key: value for key, value in environment.items() if PASSED.fullmatch(key)}
    given["SNAKEMAKE_PROFILE"] = str(JOB_PROFILE)
    lines = [f"export {key}={shlex.quote(value)}" for key, value in sorted(given.items())]
    wrapper = script.with_name(f"{script.name}.job")
    wrapper.touch(mode=0o600)
    text = ["#!/bin/sh", *lines, f"cd {shlex.quote(str(folder))} && exec sh {shlex.quote(str(script))}"]
    wrapper.write_text("\n".join(text) + "\n")
    return wrapper


def ask(words: list[str], fix: str, text: str = "") -> str:
    """The output of a command, given a text to read. Raises UserError with `fix` if there is no such command."""
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, errors="replace", timeout=ASK_SECONDS)
    except FileNotFoundError:
        raise UserError(Problem(words[0], "", "there is no such command", fix)) from None
    except subprocess.TimeoutExpired:
        return f"no answer in {ASK_SECONDS} s"
    return done.stdout + done.stderr
