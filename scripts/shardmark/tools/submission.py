"""What the schedulers have in common that Snakemake's executor cluster-generic submits to.

A job there inherits no environment: what it needs of it is written into a script beside Snakemake's own, which only
this user may read, since proxies and tokens are part of it.
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

JOB_PROFILE = Path(__file__).resolve().parents[3] / "profiles/job"
PROPERTIES = re.compile(r"^# properties = (.*)$", re.MULTILINE)
PASSED = re.compile(r"HF_\w+|HUGGING_FACE_\w+|TRANSFORMERS_\w+|SHARDMARK_\w+|(https?|no|all)_proxy", re.IGNORECASE)
"Variables that jobs get, too."
ASK_SECONDS = 60
State = Literal["running", "success", "failed"]


class Wanted(NamedTuple):
    """What Snakemake notes of a job, or a group of jobs, in its script."""

    name: str
    "Of its group, or else of its rule."
    cores: int
    memory_mb: int
    gpus: int
    minutes: int | None
    "How long it may take; None for as long as it likes."


def read_file(kind: type[S], path: Path, numbers: Collection[str] = ()) -> S:
    """The settings of a file, in which `numbers` may stand for text. Raises UserError with all that is wrong in it."""
    problems: list[Problem] = []
    values = read_yaml(path, str(path), problems)
    if isinstance(values, dict):
        values |= {key: str(values[key]) for key in numbers if values.get(key)}
    settings = None if problems else validate(kind, values, str(path), problems)
    if settings is None:
        raise UserError(problems)
    return settings


def job_wanted(script: Path) -> Wanted:
    """What a job script of Snakemake's asks for. Raises UserError."""
    found = PROPERTIES.search(script.read_text())
    if found is None:
        raise UserError(Problem(str(script), "", "is no job script of Snakemake", "let Snakemake call this command"))
    return wanted(json.loads(found[1]))


def wanted(properties: dict[str, Any]) -> Wanted:
    """The same, of Snakemake's properties of a job."""
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
    """A script beside Snakemake's that sets what a job needs of the environment, and then runs that."""
    given = {key: value for key, value in environment.items() if PASSED.fullmatch(key)}
    given["SNAKEMAKE_PROFILE"] = str(JOB_PROFILE)
    lines = [f"export {key}={shlex.quote(value)}" for key, value in sorted(given.items())]
    wrapper = script.with_name(f"{script.name}.job")
    wrapper.touch(mode=0o600)
    text = ["#!/bin/sh", *lines, f"cd {shlex.quote(str(folder))} && exec sh {shlex.quote(str(script))}"]
    wrapper.write_text("\n".join(text) + "\n")
    return wrapper


def ask(words: list[str], fix: str, text: str = "") -> str:
    """What a command prints, given a text to read. Raises UserError with `fix` if there is no such command."""
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, errors="replace", timeout=ASK_SECONDS)
    except FileNotFoundError:
        raise UserError(Problem(words[0], "", "there is no such command", fix)) from None
    except subprocess.TimeoutExpired:
        return f"no answer in {ASK_SECONDS} s"
    return done.stdout + done.stderr
