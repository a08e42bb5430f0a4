"""What is around inference: many score jobs, and the first run of a small model, as whole processes.

Jobs as forks of the run's warm processes, in turn with jobs that begin with their imports (SHARDMARK_FORKS=off): CPU
seconds of Snakemake and all that it starts, and seconds by the clock.
"""

import argparse
import ctypes
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT / "benchmarks")
sys.path.insert(0, str(ROOT / "scripts"))

import scale  # noqa: E402

from shardmark.files import write_whole  # noqa: E402
from shardmark.plan.machine import hardware  # noqa: E402
from shardmark.processes.forked import USE  # noqa: E402

PR_SET_CHILD_SUBREAPER = 36
MODES = {"forks": "", "alone": "off"}
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--profile", "local", "--quiet", "all"]
DEMO = {"run": "first", "models": ["demo_small"], "datasets": ["demo_arithmetic"]}


def measured(folder: Path, mode: str) -> dict[str, float]:
    """CPU seconds of a run and of all processes that it has left, and its seconds by the clock."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = os.environ | {USE: MODES[mode], "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # each process would compile its modules again
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    files = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    here = Path.cwd()
    os.chdir(folder)
    run = os.posix_spawn(SNAKEMAKE[0], SNAKEMAKE, environment, file_actions=files)
    os.chdir(here)
    wall = 0.0
    while True:  # the run, and then what it leaves behind: warm processes end with it
        try:
            ended, status = os.wait()
        except ChildProcessError:
            break
        if ended == run:
            wall = time.monotonic() - begin
            if status:
                sys.exit((folder / "output.txt").read_text()[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "wall": wall}


def score_jobs(folder: Path, size: int) -> Callable[[str], dict[str, float]]:
    """`size` models on `size` data sets of 200 rows, whose predictions are there."""
    scale.make_project(folder, size, size, 200)
    scale.timed([sys.executable, "-c", scale.PLAN], folder)
    scale.finish(folder)

    def once(mode: str) -> dict[str, float]:
        for name in ("scores", "samples", "timings", "reports", "logs"):
            shutil.rmtree(folder / "results" / name, ignore_errors=True)
        return measured(folder, mode)

    return once


def first_run(folder: Path, size: int) -> Callable[[str], dict[str, float]]:
    """demo_small on demo_arithmetic, from nothing to its report."""
    for part in (*scale.PARTS, "demo", "config"):
        whole = ROOT / part
        if whole.is_symlink():
            (folder / part).symlink_to(os.readlink(whole))
        elif whole.is_dir():
            shutil.copytree(whole, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(whole, folder / part)
    write_whole(folder / "config/config.yaml", json.dumps(DEMO))

    def once(mode: str) -> dict[str, float]:
        shutil.rmtree(folder / "results", ignore_errors=True)
        return measured(folder, mode)

    return once


def main(arguments: argparse.Namespace) -> None:
    cases: dict[str, dict[str, dict[str, float]]] = {}
    for case in (score_jobs, first_run):
        name = case.__name__.replace("_", " ")
        with tempfile.TemporaryDirectory() as folder:
            once = case(Path(folder), arguments.size)
            runs = {mode: [] for mode in MODES}  # type: dict[str, list[dict[str, float]]]
            for _ in range(arguments.repeats):
                for mode in MODES:
                    runs[mode].append(once(mode))
        medians = {m: {k: statistics.median(run[k] for run in made) for k in made[0]} for m, made in runs.items()}
        cases[name] = medians
        for unit in ("cpu", "wall"):
            forks, alone = medians["forks"][unit], medians["alone"][unit]
            print(f"{name:12} {unit:5} forks {forks:8.1f} s  alone {alone:8.1f} s  {alone / forks:5.1f}x", flush=True)
    write_whole(arguments.out, json.dumps({"hardware": hardware(), "cases": cases}, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=20, help="models, and data sets, of the score jobs")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind, in turn")
    out = ROOT / "benchmarks/results/processes.json"
    parser.add_argument("--out", type=Path, default=out, help="file for the results")
    main(parser.parse_args())
