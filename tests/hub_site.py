"""A project and a Hub's cache for clients of tests/fake_hub.py, which run in processes of their own.

They plan as the Snakefile does, stage as the rule does, and call commands as a user does.
"""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

import forked
from fake_hub import FakeHub
from projects import GENERATE, write_rows, write_yaml

ROOT = Path(__file__).resolve().parent.parent
PLAN = """
import json, pathlib, yaml
from shardmark.records.base import to_json
from shardmark.workflow.snakefile import plan_or_exit
config = yaml.safe_load(pathlib.Path("config/test.yaml").read_text())
plan = plan_or_exit(config, "config/test.yaml")
print(json.dumps(to_json({"models": plan.models, "datasets": plan.datasets})))
"""
ROWS = [
    {"id": "a", "question": "1 + 1?", "answer": 2, "weight": 0.5, "more": {"text": ["x", "y"], "label": ["A", "B"]}},
    {"id": "b", "question": "Zwölf\u2028oder\nmehr? \U0001f600", "answer": 12, "weight": 1e-7, "more": None},
    {"id": "c", "question": "", "answer": -3, "weight": 3.0, "more": {"text": [], "label": []}},
]


@dataclass
class Site:
    """A project and a Hub's cache, for clients of a fake Hub."""

    hub: FakeHub
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    "More variables for every client."

    @property
    def project(self) -> Path:
        """The folder with config/ and results/."""
        return self.folder / "project"

    @property
    def cache(self) -> Path:
        """HF_HOME."""
        return self.folder / "cache"

    def configure(self, models: list[str], datasets: list[str], **settings: Any) -> None:
        """Write the configuration of the run."""
        write_yaml(self.project / "config/test.yaml", {"models": models, "datasets": datasets} | settings)

    def model(self, name: str, **settings: Any) -> None:
        """Write config/models/{name}.yaml."""
        write_yaml(self.project / f"config/models/{name}.yaml", {"num_gpus": 0} | settings)

    def dataset(self, name: str, source: dict[str, Any], **settings: Any) -> None:
        """Write config/datasets/{name}.yaml, with questions to answer in free text."""
        write_yaml(self.project / f"config/datasets/{name}.yaml", GENERATE | {"source": source} | settings)

    def push(self, kind: str, name: str, files: dict[str, Any], ref: str = "main") -> str:
        """Make files (text, bytes, or rows for .jsonl and .parquet) the newest commit of a branch."""
        folder = self.folder / "pushed" / name / ref
        shutil.rmtree(folder, ignore_errors=True)
        for path, content in files.items():
            write_file(folder / path, content)
        return self.hub.push(kind, name, folder, ref)

    def variables(self) -> dict[str, str]:
        """The environment of every client."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        own = {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.cache), "NO_PROXY": "127.0.0.1,localhost"}
        return inherited | own | {"PYTHONPATH": str(ROOT / "scripts")} | self.environment

    def client(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the project."""
        return forked.python(*command, folder=self.project, environment=self.variables() | environment)

    def plan(self, **environment: str) -> dict[str, Any]:
        """The records of all models and data sets."""
        done = self.client("-c", PLAN, **environment)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def refused(self, **environment: str) -> str:
        """The message of a plan that fails."""
        done = self.client("-c", PLAN, **environment)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr

    def stage(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Stage the one model of the plan."""
        (record,) = (self.project / "results/models").glob("*.json")
        command = ["--model", str(record), "--weights", "results/staged/weights", "--out", "results/staged.json"]
        return self.client(str(ROOT / "scripts/stage.py"), *command, "--log", "results/stage.log", **environment)

    def staged(self, **environment: str) -> tuple[Path, Path]:
        """The folders of the model and its tokenizer, after staging them."""
        done = self.stage(**environment)
        assert done.returncode == 0, done.stderr
        folders = json.loads((self.project / "results/staged.json").read_text())
        return Path(folders["model"]), Path(folders["tokenizer"])

    @property
    def lock(self) -> Path:
        """The file of pinned commits."""
        return self.project / "config/benchmark.lock"

    def pins(self) -> dict[str, dict[str, str]]:
        """The commits in the lock."""
        return dict(json.loads(self.lock.read_text())["hub"])

    def relock(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Call the command for the run of config/test.yaml."""
        command = [str(ROOT / "scripts/relock.py"), "--configfile", "config/test.yaml", *options]
        return self.client(*command, **environment)

    def requests(self, record: dict[str, Any]) -> dict[str, list[str]]:
        """The request ids of each shard of a data set."""
        return {f.stem: [json.loads(line)["id"] for line in f.read_text().splitlines()] for f in self._shards(record)}

    def prompts(self, record: dict[str, Any]) -> set[str]:
        """What is asked."""
        return {json.loads(line)["prompt"] for f in self._shards(record) for line in f.read_text().splitlines()}

    def _shards(self, record: dict[str, Any]) -> list[Path]:
        """The request files of the finest division of a data set."""
        results, name = self.project / "results", record["name"]
        levels = json.loads((results / f"tasks/{name}@{record['digest']}.shards.json").read_text())["levels"]
        return [results / f"requests/{name}/{shard['name']}.jsonl" for shard in levels[max(levels, key=int)]]


def write_file(path: Path, content: Any) -> None:
    """A file with a text, bytes, or rows in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet" and isinstance(content, list):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), path)
    elif isinstance(content, list):
        write_rows(path, content)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def safetensors(content: bytes) -> bytes:
    """A file of weights with these bytes as its one tensor."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}}).encode()
    return len(header).to_bytes(8, "little") + header + content


def weights(content: bytes | None = None) -> dict[str, Any]:
    """The files of a model, and some that no engine loads."""
    content = content or safetensors(b"weights")
    loaded = {"config.json": "{}", "tokenizer.json": '{"version": "1.0"}', "model.safetensors": content}
    again = dict.fromkeys(("pytorch_model.bin", "consolidated.safetensors", "model.gguf", "onnx/model.onnx"), b"again")
    return loaded | again | {"README.md": "# A model"}


def hub_site(hub: FakeHub, folder: Path) -> Site:
    """A project with model `m` (org/model) and data set `d` (org/data), both in the Hub."""
    site = Site(hub, folder)
    site.push("model", "org/model", weights())
    site.push("dataset", "org/data", {"test.jsonl": ROWS})
    site.model("m", path="org/model")
    site.dataset("d", {"hub": "org/data"})
    site.configure(["m"], ["d"])
    return site


def with_own_rows(site: Site) -> Site:
    """The same with rows in a file, so that only the model comes from the Hub: planning is then much faster."""
    site.dataset("d", {"file": str(write_rows(site.folder / "rows.jsonl", ROWS))})
    return site
