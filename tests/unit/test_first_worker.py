"""The imports of the first worker begin with the plan, where it is clear by then that there is work for it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from shardmark.config import Benchmark, Named, RunConfig
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.workflow import warm_starts
from shardmark.workflow.snakefile import runs_jobs


def started(folder: Path, monkeypatch: pytest.MonkeyPatch, models: dict[str, int], **run: Any) -> list[tuple[str, int]]:
    """The kinds of workers that are started, with their threads, for models with these numbers of GPUs."""
    found: list[tuple[str, int]] = []
    monkeypatch.setattr(warm_starts, "_start_worker", lambda kind, cpus, cores: found.append((kind, min(cpus, cores))))
    settings = {name: {"path": "org/m", "num_gpus": gpus, "cpus": 3} for name, gpus in models.items()}
    named = [Named(name, "", TransformersConfig.model_validate(keys)) for name, keys in settings.items()]
    warm_starts.start_first_worker(Benchmark(RunConfig(results=str(folder), **run), named, []), 2)
    return found


def test_a_worker_is_started_for_the_first_model_without_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert started(tmp_path, monkeypatch, {"a": 0, "b": 0}) == [("worker-transformers", 2)]
    (tmp_path / "predictions/a@0/d").mkdir(parents=True)
    assert started(tmp_path, monkeypatch, {"a": 0}) == []
    assert started(tmp_path, monkeypatch, {"a": 0, "b": 0}) == [("worker-transformers", 2)]
    (tmp_path / "scores/b@0/d").mkdir(parents=True)
    assert started(tmp_path, monkeypatch, {"a": 0, "b": 0}) == []


def test_none_is_started_for_gpus_without_inference_or_where_forks_are_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert started(tmp_path, monkeypatch, {"a": 1}) == []
    assert started(tmp_path, monkeypatch, {"a": 0}, rescore=True) == []
    monkeypatch.setenv("SHARDMARK_FORKS", "off")
    assert started(tmp_path, monkeypatch, {"a": 0}) == []


def test_a_server_is_started_again_only_with_other_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    sleepers: list[subprocess.Popen[bytes]] = []

    def launch(path: str, owner: int, variables: dict[bytes, bytes]) -> "subprocess.Popen[bytes]":
        sleepers.append(subprocess.Popen(["sleep", "600"]))
        return sleepers[-1]

    monkeypatch.setattr(warm_starts, "launch_server", launch)
    monkeypatch.setattr(warm_starts, "_begun", {})
    for value in "aab":
        warm_starts._start("kind", {"NAME": value})
    first, second = sleepers
    assert (first.poll(), second.poll()) == (-9, None)
    second.kill()
    second.wait()


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        ("--profile local", True),
        ("--cores 2 --config limit=8", True),
        ("--latency-wait 5 -k", True),
        ("-np", False),
        ("--dry-run", False),
        ("--summary", False),
        ("-D", False),
        ("--report report.zip", False),
        ("--unlock", False),
        ("--list-rules", False),
        ("--lt", False),
        ("--lint", False),
        ("-t", False),
    ],
)
def test_options_tell_whether_jobs_run(words: str, runs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["snakemake", *words.split()])
    assert runs_jobs() == runs
