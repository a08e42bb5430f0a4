"""A run tells how far it is, and at its end what has failed and why; it then has not succeeded."""

import re

import pytest

from quick_engine import use_quick_engine
from workflow import Project

CONFIG = {
    "run": "test",
    "models": ["demo_small"],
    "datasets": ["demo_grammar", "demo_arithmetic"],
    "limit": 40,
    "max_shard_size": 16,
    "progress_seconds": 0.1,
}


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.create(tmp_path_factory.mktemp("course") / "project", **CONFIG)
    use_quick_engine(project)
    return project


@pytest.mark.slow
def test_progress_failures_and_status_of_a_run_in_which_a_shard_fails(project: Project) -> None:
    project.run("-n")
    damaged = min((project.results / "requests/demo_grammar").glob("*.jsonl"))
    damaged.write_text(damaged.read_text().replace("id", "di", 1))
    output = project.run(succeeds=False)
    shards = len(project.trailers())
    steps = re.findall(r"^progress: (\d+) of (\d+) shards, (\d+) of 80 requests(?:, about .+ left)?$", output, re.M)
    assert steps
    assert {int(total) for _, total, _ in steps} == {shards + 1}
    assert [int(done) for done, _, _ in steps] == sorted(int(done) for done, _, _ in steps)
    assert re.search(r"^    demo_small on demo_arithmetic: \d+ of \d+ shards, \d+ of 40 requests$", output, re.M)
    (log,) = (project.results / "logs/infer").glob(f"*/demo_grammar/{damaged.stem}.log")
    end = f"""failed: demo_small on demo_grammar, shard {damaged.stem}; the end of {log.relative_to(project.folder)}:
    ERROR root: {damaged}: the request file is damaged
        fix: delete it; the next run recreates it
1 of {shards + 1} shards are missing; run the same command again: finished work is kept
"""
    assert end in output
    (told,) = (project.folder / ".snakemake/log").glob("*.log")
    assert end in told.read_text()
    assert "progress: " in told.read_text()
    damaged.unlink()
    output = project.run()
    assert project.jobs(output) == {"infer": 1, "score": 1, "report": 1}
    assert "failed: " not in output
