"""Runs that are killed while they stage, infer, score or report: the next one that ends well has made everything.

SHARDMARK_KILLS sets how many, SHARDMARK_SEED repeats a run that failed.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from quick_engine import use_quick_engine
from workflow import Project

KILLS = int(os.environ.get("SHARDMARK_KILLS", "30"))
SEED = int(os.environ.get("SHARDMARK_SEED", random.SystemRandom().randrange(1 << 32)))
CONFIG = {
    "run": "test",
    "models": ["demo_small", "demo_medium"],
    "datasets": ["demo_arithmetic"],
    "limit": 10,
    "max_shard_size": 8,
}
PHASES = {"staging": "stage_model", "inference": "infer", "scoring": "score", "reporting": "report"}
"What is killed, and the job whose start it follows."
LONGEST = {"staging": 0.6, "inference": 1.0, "scoring": 1.5, "reporting": 2.5}
"Seconds after the start of the job, at most."
AFTER = ("scores", "samples", "timings", "reports")
UNDONE = {
    "staging": ("staged", "predictions", *AFTER),
    "inference": ("predictions", *AFTER),
    "scoring": AFTER,
    "reporting": ("reports",),
}
"What is removed of finished results, so that there is something to kill."


@dataclass
class Run:
    """A run whose output is read while it goes on."""

    process: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)
    begun: dict[str, threading.Event] = field(
        default_factory=lambda: {rule: threading.Event() for rule in PHASES.values()}
    )

    def follow(self) -> None:
        """Read until the end; note each rule whose first job starts."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.match(r"Job \d+: (\w+) ", line):
                self.begun.get(found[1], threading.Event()).set()
        for event in self.begun.values():
            event.set()


def kill(project: Project, chance: random.Random, phase: str) -> tuple[str, str]:
    """Start a run and kill it in a phase, if it comes to that; how it ended, and its output."""
    run = Run(project.start("--printshellcmds"))  # tells of each job that starts
    reader = threading.Thread(target=run.follow)
    reader.start()
    run.begun[PHASES[phase]].wait()
    time.sleep(chance.uniform(0.0, LONGEST[phase]))
    how = chance.choice(["SIGKILL to Snakemake", "SIGKILL to all", "SIGHUP to all"])
    if run.process.poll() is None:
        if how == "SIGKILL to Snakemake":
            run.process.kill()
        else:
            os.killpg(run.process.pid, signal.SIGKILL if how == "SIGKILL to all" else signal.SIGHUP)
    run.process.wait()
    reader.join()
    code, output = run.process.returncode, "".join(run.lines)
    stopped = how == "SIGHUP to all" and code == 1 and "Terminating processes on user request" in output
    killed = code in (-signal.SIGKILL, -signal.SIGHUP) or stopped
    return (f"{phase}, {how}" if killed else f"ended with {code}"), output


def undo(project: Project, phase: str) -> None:
    """Remove what a phase and those after it have made."""
    for folder in UNDONE[phase]:
        shutil.rmtree(project.results / folder, ignore_errors=True)


def check(project: Project, scores: dict[str, bytes], output: str) -> None:
    """A run that ended well has made everything, and the same as ever."""
    report = project.results / "reports/test"
    assert all((report / name).is_file() for name in ("index.html", "leaderboard.csv", "leaderboard.md")), output
    assert project.scores() == scores, output
    assert len(project.samples()) == 20, output


@pytest.mark.slow
@pytest.mark.timeout(60 * KILLS)
def test_runs_killed_anywhere_lose_nothing_and_never_end_well_without_everything(tmp_path: Path) -> None:
    print(f"SHARDMARK_SEED={SEED}")
    chance, counts = random.Random(SEED), Counter[str]()
    project = Project.create(tmp_path / "project", **CONFIG)
    use_quick_engine(project)
    project.run()
    scores, finished = project.scores(), True
    while sum(counts[name] for name in counts if not name.startswith("ended")) < KILLS:
        phase = chance.choice(list(PHASES))
        if finished or chance.random() < 0.3:  # else it goes on from what the last one has left
            undo(project, phase)
        how, output = kill(project, chance, phase)
        counts[how] += 1
        print(f"{time.strftime('%H:%M:%S')} {how}", flush=True)
        shutil.rmtree(project.folder / ".snakemake/locks", ignore_errors=True)  # as --unlock
        if finished := how.startswith("ended"):
            assert how == "ended with 0", output
            check(project, scores, output)
    check(project, scores, project.run())
    print(*sorted(counts.items()), sep="\n")
    assert not project.outlived()
    assert not list(project.folder.rglob("*.partial"))
