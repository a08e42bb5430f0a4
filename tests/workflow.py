"""Run the real workflow in a copy of this project."""

import compileall
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

import forked

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("Snakefile", "rules", "scripts", "config", "envs", "profiles", "demo", "local", "slurm")
SMALL_RUN: dict[str, Any] = {
    "run": "test",
    "models": ["demo_small"],
    "datasets": ["demo_arithmetic", "demo_grammar"],
    "limit": 16,
    "max_shard_size": 8,
}
"Four shards of eight requests each, and two scores."


@functools.cache
def compile_scripts() -> None:
    """Compile the code once: copies keep times of modification, so each takes the compiled files for its own."""
    compileall.compile_dir(ROOT / "scripts", quiet=1)


@dataclass(frozen=True)
class Project:
    """A copy of Shardmark with a configuration of its own, config/test.yaml."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, **config: Any) -> "Project":
        """Copy what a clone has, without results."""
        folder.mkdir(parents=True)
        compile_scripts()
        for part in PARTS:
            source, target = ROOT / part, folder / part
            if source.is_symlink():
                target.symlink_to(os.readlink(source))
            elif source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("benchmark.lock"))
            else:
                shutil.copy2(source, target)
        project = cls(folder)
        project.configure(**config)
        return project

    def copy(self, folder: Path) -> "Project":
        """The same with all its results, in another place."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def configure(self, **config: Any) -> None:
        """Write config/test.yaml."""
        (self.folder / "config/test.yaml").write_text(yaml.safe_dump(config))

    def edit_yaml(self, path: str, **changes: Any) -> None:
        """Change keys of a YAML file."""
        file = self.folder / path
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))

    def command(self, *arguments: str, profile: str = "local") -> list[str]:
        """The command line of a run."""
        base = [sys.executable, "-m", "snakemake", "--profile", profile, "--configfile", "config/test.yaml"]
        return [*base, *arguments]

    def environment(self) -> dict[str, str]:
        """No GPU, no hub, and results of Python's own caches kept out of the copy."""
        return os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, *arguments: str, profile: str = "local", succeeds: bool = True) -> str:
        """Run Snakemake; its output, standard error included."""
        words = self.command(*arguments, profile=profile)[1:]
        done = forked.python(*words, folder=self.folder, environment=self.environment(), together=True)
        assert (done.returncode == 0) == succeeds, done.stdout
        return done.stdout

    def plain(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run Snakemake without a profile, to whatever end."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--configfile", "config/test.yaml"]
        return subprocess.run(command, cwd=self.folder, env=self.environment(), capture_output=True, text=True)

    def start(self, *arguments: str, profile: str = "local") -> "subprocess.Popen[str]":
        """Start Snakemake in a process group of its own, its output in a pipe."""
        return subprocess.Popen(
            self.command(*arguments, profile=profile),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def outlived(self, seconds: float = 20.0) -> list[psutil.Process]:
        """The processes of this project's runs that are still there some time after these have ended."""
        deadline = time.monotonic() + seconds
        while True:
            every = psutil.process_iter(["cmdline"])
            left = [process for process in every if str(self.folder) in " ".join(process.info["cmdline"] or [])]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.1)

    def jobs(self, output: str) -> dict[str, int]:
        """The jobs that a run really did, by rule, without `all`."""
        done = re.findall(
            r"^Finished jobid: \d+ \(Rule: (stage_model|infer|infer_endpoint|score|report)\)",
            self.told(output),
            re.MULTILINE,
        )
        return dict(Counter(done))

    def told(self, output: str) -> str:
        """All that Snakemake told of a run with this output: what is too much for a terminal is in its log."""
        logs = re.findall(r"^Complete log\(s\): (.+)$", output, re.MULTILINE)
        if "in __onsuccess" in output:  # which Snakemake ends without naming its log
            logs = [max(map(str, (self.folder / ".snakemake/log").glob("*.snakemake.log")))]
        return "\n".join([output, *(Path(log).read_text("utf-8") for log in logs)])

    def announced(self, output: str) -> dict[str, int]:
        """The jobs in the table that a run or a dry run begins with, by rule, without `all`."""
        told = self.told(output)
        table = re.findall(r"^(stage_model|infer|infer_endpoint|score|report) +(\d+)$", told, re.MULTILINE)
        assert table or "Nothing to be done" in output, output
        return {rule: int(count) for rule, count in table}

    def planned(self, *arguments: str, profile: str = "local") -> dict[str, int]:
        """The jobs of a dry run by rule, without `all`; empty if nothing is to be done."""
        return self.announced(self.run("-n", *arguments, profile=profile))

    def trailers(self) -> dict[Path, dict[str, Any]]:
        """The trailer of each prediction file."""
        files = sorted((self.folder / "results/predictions").glob("*/*/*.jsonl"))
        return {file: json.loads(file.read_text().splitlines()[-1])["complete"] for file in files}

    def inferred(self, before: dict[Path, dict[str, Any]]) -> int:
        """Requests inferred for prediction files that are new since `before`."""
        return sum(trailer["inferred"] for file, trailer in self.trailers().items() if file not in before)

    @property
    def results(self) -> Path:
        """The folder for everything a run writes."""
        config = yaml.safe_load((self.folder / "config/test.yaml").read_text())
        return self.folder / config.get("results", "results")

    def made_of(self) -> dict[str, Any]:
        """What the published report is made of."""
        name = os.readlink(self.results / "reports/test")
        return dict(json.loads((self.results / "plans/reports" / f"{name}.json").read_text()))

    def scores(self) -> dict[str, bytes]:
        """The score files of the published report, by model and data set."""
        files = [self.folder / file for file in self.made_of()["scores"]]
        return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}

    def samples(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        """Each sample of the published report by model, data set and sample id."""
        found = {}
        for file in map(Path, self.made_of()["samples"]):
            for line in (self.folder / file).read_text().splitlines():
                sample = json.loads(line)
                found[file.parent.name.split("@")[0], file.name.split("@")[0], sample["sample"]] = sample
        return found
