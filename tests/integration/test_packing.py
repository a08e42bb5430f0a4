"""What is packed on a machine with a network runs on one without, and gives the same scores."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fake_hub import FakeHub
from projects import write_rows, write_yaml
from requirements_check import need
from workflow import ROOT, Project

CONFIG = {"run": "test", "models": ["hub_small"], "datasets": ["hub_sums"], "limit": 8}
SUMS = {
    "kind": "generate",
    "prompt": "Q: {{ question }}\nA:",
    "target": "answer",
    "metrics": ["exact_match"],
    "generation": {"max_new_tokens": 4},
}
EVERY_METRIC = """
import sys
sys.path.insert(0, "scripts")
from shardmark.metrics import METRICS
from shardmark.scoring.load_metric import load_metric
assert [load_metric(name) for name in METRICS]
"""


class Clone:
    """A clone on a machine with a home of its own; `before` its commands stand these words."""

    def __init__(self, folder: Path, before: Sequence[str] = (), **environment: str) -> None:
        self.project = Project.create(folder / "clone", **CONFIG)
        own = {"HOME": str(folder / "home"), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        caches = ("HF_", "XDG_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(caches)}
        self.environment = inherited | own | environment
        self.before = before

    def snakemake(self, *words: str) -> str:
        done = self.python("-m", "snakemake", "--profile", "local", *words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def python(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [*self.before, sys.executable, *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.run(command, cwd=self.project.folder, env=self.environment, text=True, **pipes)  # type: ignore[call-overload]


@pytest.mark.slow
def test_an_archive_is_all_that_a_machine_without_a_network_needs(tmp_path: Path) -> None:
    rows = [{"question": f"{n} + {n + 1} =", "answer": str(2 * n + 1)} for n in range(12)]
    write_rows(tmp_path / "rows/test.jsonl", rows)
    with FakeHub() as hub:
        hub.push("model", "org/small", ROOT / "demo/models/small")
        hub.push("dataset", "org/sums", tmp_path / "rows")
        here = Clone(tmp_path / "here", HF_ENDPOINT=hub.url, NO_PROXY="127.0.0.1,localhost")
        config = here.project.folder / "config"
        write_yaml(config / "models/_small.yaml", {"num_gpus": 0, "max_out_len": 8})
        write_yaml(config / "models/hub_small.yaml", {"include": "_small", "path": "org/small"})
        source: dict[str, Any] = {"source": {"hub": "org/sums", "split": "test"}}
        write_yaml(config / "datasets/hub_sums.yaml", SUMS | source)
        here.snakemake("--configfile", "config/test.yaml")
        shown = here.snakemake("pack", "--configfile", "config/test.yaml")
        assert "test.tar.zst: " in shown
    archive = here.project.folder / "test.tar.zst"
    first = archive.read_bytes()
    assert here.python("scripts/pack.py", "--configfile", "config/test.yaml").returncode == 0
    assert archive.read_bytes() == first, "the same again"
    without_network = [need("bwrap"), "--dev-bind", "/", "/", "--unshare-net", "--die-with-parent"]
    there = Clone(tmp_path / "there", without_network, HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    os.replace(archive, there.project.folder / "test.tar.zst")
    assert there.python("scripts/unpack.py", "test.tar.zst", "--config", "limit=5").returncode == 1
    assert not (tmp_path / "there/home").exists()
    shown = there.snakemake("unpack", "--configfile", "config/test.yaml")
    assert "config/packed_test.yaml" in shown
    there.snakemake("--configfile", "config/packed_test.yaml")
    assert there.project.scores() == here.project.scores()
    here_lock, there_lock = (
        json.loads((each.project.folder / "config/benchmark.lock").read_text()) for each in (here, there)
    )
    assert here_lock == there_lock
    done = there.python("-c", EVERY_METRIC)
    assert done.returncode == 0, done.stdout
