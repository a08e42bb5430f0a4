"""A tiny job on Slurm that checks whether a node has what a run's jobs need, before the first of them.

One job for each combination of partition, account, QOS, constraint and other flags that the models' jobs will have. A
node that has everything is remembered for a day.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from shardmark import layout
from shardmark.errors import Problem, UserError
from shardmark.files import digest, json_line, pretty_json, sealed, write_whole
from shardmark.installation import SCRIPTS
from shardmark.plan.hub_files import missing, places
from shardmark.plan.plan import Plan
from shardmark.records.base import Unreadable, decode, find_sealed, to_json
from shardmark.records.model import Folder, GgufFile, ModelRecord
from shardmark.records.node_check import NodeAnswer, NodeCheck, NodeNeeds
from shardmark.store.hub_cache import hub_home

SLURM_FLAGS = "SHARDMARK_SLURM_FLAGS"
"The variable that passes the profile's flags to the command preflight."
DAY = 86400.0
JOB = "shardmark-node-check"
FLAGS = ("partition", "account", "qos", "constraint")
STARTED = "shardmark-node"
"The first word of the line that the job writes before it starts Python."
SCRIPT = f'echo "{STARTED} $(hostname)"; exec "$@"'
MINUTES = 5
"The time limit of the job."
ENDED = re.compile(r"Force Terminated|CANCELLED|DUE TO|Node failure|step aborted|reempt")
"What is written when Slurm, not the command, has ended a job."
ENDING = 10.0
"Seconds for srun to end a job when it is told to."
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "msgspec", "pydantic", "peft", "evaluate")
"Packages that jobs import, as far as they are here."


class Queue(NamedTuple):
    """Where jobs of some models go: flags of srun."""

    flags: tuple[str, ...]
    name: str
    "For messages."


def probe_nodes(
    plan: Plan, defaults: Mapping[str, str], tell: Callable[[str], None], now: Callable[[], float] = time.time
) -> list[Problem]:
    """Everything that nodes lack for the jobs of a plan; `tell` gets a line about each queue where none was checked.

    `defaults` are the Slurm flags of the profile by key of a model's `slurm`.
    """
    seconds = plan.benchmark.run.probe_seconds
    if not seconds:
        return []
    queues: dict[Queue, list[ModelRecord]] = {}
    for model in plan.waiting_models():
        if not model.settings.elsewhere:
            queues.setdefault(_queue(model, defaults), []).append(model)
    return [problem for queue, models in queues.items() for problem in _probe(plan, queue, models, seconds, tell, now)]


def _queue(model: ModelRecord, defaults: Mapping[str, str]) -> Queue:
    own = model.settings.slurm
    given = {key: getattr(own, key) or defaults.get(key) for key in (*FLAGS, "extra")}
    flags = [f"--{key}={given[key]}" for key in FLAGS if given[key]]
    name = f"partition {given['partition']}" if given["partition"] else "the default partition"
    try:
        extra = shlex.split(given["extra"] or "")
    except ValueError as error:
        where, key = (model.file, "slurm.extra") if own.extra else ("the profile", "default-resources.slurm_extra")
        raise UserError(Problem(where, key, f"{error}: {given['extra']}", "close the quotation mark")) from error
    return Queue((*flags, *extra), name)


def node_needs(plan: Plan, models: list[ModelRecord]) -> NodeNeeds:
    """What the jobs of some models need of a node, as it is on this machine."""
    folders, files = {str(Path.cwd()), SCRIPTS}, dict[str, int]()
    home = hub_home()
    for place in places(models):  # files that are to be staged are not here yet
        folders |= {str(home)} if home.is_dir() else set()
        gone = {fault.path for fault in missing(place)}
        files |= _sizes(path for name in place.files if (path := place.folder / name) not in gone)
    for model in models:
        for location in model.locations:
            if isinstance(location, Folder):
                folders.add(str(Path(location.path).absolute()))
                files |= _sizes(Path(location.path, name).absolute() for name in location.identity)
            elif isinstance(location, GgufFile):
                files |= _sizes([Path(location.path).absolute()])
        folders |= {str(Path(engine.python).parent) for engine in model.engines or () if engine.python}
    return NodeNeeds(
        folders=sorted(folders),
        files=dict(sorted(files.items())),
        packages={name: found for name in PACKAGES if (found := _version(name))},
        gpus=any(model.on_gpus for model in models),
        sandbox=plan.runs_programs,
    )


def _sizes(paths: Iterable[Path]) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in paths if path.is_file()}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _probe(
    plan: Plan,
    queue: Queue,
    models: list[ModelRecord],
    seconds: float,
    tell: Callable[[str], None],
    now: Callable[[], float],
) -> list[Problem]:
    needs = node_needs(plan, models)
    path = layout.NODES.file(plan.results, file=f"{digest(list(queue.flags))}.json")
    known = find_sealed(path, NodeCheck)
    if known and 0 <= now() - known.checked < DAY and known.needs.covers(needs):
        return []
    command = [*_srun(queue, needs, seconds), sys.executable, f"{SCRIPTS}/check_node.py"]
    said = _said([*command, "--results", str(plan.results.absolute())], json_line(to_json(needs)), seconds)
    if said is None or STARTED not in said.output:
        why = "srun has not answered" if said is None else said.why or "srun says nothing"
        tell(f"no node of {queue.name} was checked ({why}); its jobs find out (probe_seconds: 0 asks for none)")
        return []
    node = said.output.partition(STARTED)[2].split("\n", 1)[0].strip()
    where = f"node {node} of {queue.name}"
    try:
        answer = decode(said.output.strip().splitlines()[-1], NodeAnswer)
    except Unreadable:
        if ENDED.search(said.errors):
            tell(f"{where} was not checked to the end ({said.why}); its jobs find out")
            return []
        fix = "put the project and its Python environment on a file system that the nodes see, at the same path"
        return [Problem(where, "", f"{sys.executable} does not run there: {said.why}", fix)]
    if not answer.lacks:
        good = NodeCheck(needs=needs, node=answer.node, checked=now())
        write_whole(path, pretty_json(sealed(to_json(good))))
    return [Problem(where, "", lack.what, lack.fix) for lack in answer.lacks]


def _srun(queue: Queue, needs: NodeNeeds, seconds: float) -> list[str]:
    """The command that runs another one on a node, if it gets one in time."""
    size = ["--nodes=1", "--ntasks=1", "--cpus-per-task=1", "--mem=2000", f"--time={MINUTES}"]
    gpu = ["--gpus=1"] if needs.gpus else []
    wait = [f"--immediate={max(1, round(seconds))}", f"--job-name={JOB}"]
    return ["srun", *size, *gpu, *wait, *queue.flags, "sh", "-c", SCRIPT, "sh"]


class _Said(NamedTuple):
    output: str
    why: str
    "The last line of its errors."
    errors: str = ""


def _said(command: list[str], given: str, seconds: float) -> _Said | None:
    """What a command on a node, given a text to read, has written; None if srun is silent, and its job is ended."""
    left = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_") or key == "SLURM_CONF"}
    try:
        running = subprocess.Popen(
            command,
            env=left,  # within a job, srun would take that job's node
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        return _Said("", f"srun: {error.strerror}")
    with running:
        try:
            output, errors = running.communicate(given, timeout=seconds + 60 * MINUTES)
        except BaseException as error:  # an interrupt, too, must leave no job
            running.terminate()
            try:
                running.wait(ENDING)
            except subprocess.TimeoutExpired:
                running.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                return None
            raise
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return _Said(output, lines[-1] if lines else "", errors)
