"""A dozen random SIGKILLs of workers, clients and Snakemake itself: the scores are those of an undisturbed run."""

import random
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from quick_engine import use_quick_engine
from workflow import Project

KILLS = 12
CONFIG = {
    "run": "test",
    "models": ["demo_small", "demo_medium"],
    "datasets": ["demo_grammar", "demo_arithmetic"],
    "limit": 100,
    "batch_size": 1,
    "max_shard_size": 32,
}


def victim(kind: str, project: Project, run: "subprocess.Popen[str]") -> psutil.Process | None:
    """A process of a run: a worker, the client of one, or Snakemake."""
    if kind == "snakemake":
        return psutil.Process(run.pid)
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            mine = any(word.startswith(str(project.folder)) for word in words) or process.cwd() == str(project.folder)
        except psutil.Error:
            continue
        if mine and any(word.endswith(f"/{kind}.py") for word in words) and words[0] != "/usr/bin/bash":
            return process
    return None


def disturb(project: Project, chance: random.Random, left: int) -> int:
    """A run of which processes are killed, at most `left`; how many were."""
    run, kills = project.start(), 0
    while run.poll() is None and kills < left:
        time.sleep(chance.uniform(0.0, 1.5))
        kind = chance.choice(["worker", "worker", "infer", "infer", "snakemake"])
        process = victim(kind, project, run)
        if process is not None and run.poll() is None:
            process.kill()
            kills += 1
    run.communicate()
    return kills


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_random_kills_change_no_score(tmp_path: Path) -> None:
    undisturbed = Project.create(tmp_path / "undisturbed", **CONFIG)
    use_quick_engine(undisturbed)
    project = undisturbed.copy(tmp_path / "project")
    undisturbed.run()
    chance, kills, rounds = random.Random(20), 0, 0
    while kills < KILLS:
        for folder in ("predictions", "scores", "samples", "timings") if rounds % 5 == 4 else ():
            shutil.rmtree(project.folder / "results" / folder, ignore_errors=True)  # all done: there is more to kill
        kills += disturb(project, chance, KILLS - kills)
        rounds += 1
        project.run("--unlock")
    project.run()
    assert project.scores() == undisturbed.scores()
    assert project.samples() == undisturbed.samples()  # most answers are wrong, so that another one scores the same
    assert not list(project.folder.rglob("*.partial"))
    assert not project.outlived()
