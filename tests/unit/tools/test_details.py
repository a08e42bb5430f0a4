"""`plan` tells of each model and data set what a run would do."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from made_up_answers import answer, finish
from projects import plan, problems, write_dataset, write_model
from shardmark.config.merge import Merged
from shardmark.errors import UserError
from shardmark.plan.cost import prior_load_seconds
from shardmark.tools.details import plan_details, print_details
from shardmark.tools.planned import plan_run, refusals
from shardmark.workflow.snakefile import tool_options


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        write_model(tmp_path, name)
    write_dataset(tmp_path, "d")
    write_dataset(tmp_path, "e")
    return tmp_path


def test_every_pair_has_its_shards_requests_and_times(root: Path) -> None:
    made = plan(root, max_shard_size=2, run="r")
    details = plan_details(made, lambda pair: 2)
    assert [(p.model, p.dataset, p.samples) for p in details.pairs] == [
        ("a", "d", 5),
        ("a", "e", 5),
        ("b", "d", 5),
        ("b", "e", 5),
    ]
    for pair in details.pairs:
        assert pair.missing_shards == pair.shards > 1
        assert pair.requests_to_infer == 5
        assert pair.gpu_hours == 0.0
        assert pair.wall_seconds == pytest.approx(pair.seconds / 2, rel=0.3)
    total = details.total
    assert total.requests_to_infer == 20
    # each model is loaded at two places, and not again for its second data set
    loads = sum(2 * prior_load_seconds(pair.model) for pair in made.pairs if pair.dataset.name == "e")
    assert total.seconds == pytest.approx(sum(pair.seconds for pair in details.pairs) - loads)
    assert (details.run, details.results) == ("r", str(root / "results"))


def test_gpu_hours_count_every_gpu_of_a_job(root: Path) -> None:
    made = plan(root, local=False, num_gpus=4, models=["a"], datasets=["d"])
    (pair,) = plan_details(made, lambda pair: None).pairs
    assert pair.gpu_hours == pytest.approx(4 * pair.seconds / 3600)
    assert pair.gpu_hours > 0


def test_what_is_there_is_not_to_be_run(root: Path) -> None:
    first = plan(root, max_shard_size=2)
    pair = first.pairs[0]
    done = pair.missing[0]
    answer(first, pair, done.name)
    details = plan_details(plan(root, max_shard_size=2), lambda pair: 1).pairs[0]
    assert details.missing_shards == pair.shards - 1
    assert details.requests_to_infer == 5 - done.requests
    finish(plan(root, max_shard_size=2))
    total = plan_details(plan(root, max_shard_size=2), lambda pair: 1).total
    assert (total.missing_shards, total.requests_to_infer, total.seconds) == (0, 0, 0.0)
    assert total.wall_seconds == 0.0


def test_a_results_folder_that_cannot_be_made_is_named(root: Path) -> None:
    (root / "file").write_text("")
    config = {"models": ["a"], "datasets": ["d"], "results": str(root / "file/results")}
    (found,) = problems(plan_run, Merged(config, "config/config.yaml"), root, local=True)
    assert (found.where, found.key) == ("config/config.yaml", "results")
    assert f"the plan cannot be written: {root}/file/results" in found.what
    assert found.what.endswith("Not a directory")
    assert "--config results=" in found.fix


@pytest.mark.parametrize(
    ("tool", "cores", "nodes", "options"),
    [
        ("plan", 4, None, " --cores 4"),
        ("plan", None, 20, " --jobs 20"),
        ("plan", 4, 20, " --cores 4 --jobs 20"),
        ("list", 4, None, ""),
    ],
)
def test_the_target_knows_the_cores_and_jobs_of_its_snakemake(
    tool: str, cores: int | None, nodes: int | None, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["snakemake", tool])
    assert tool_options(tool, SimpleNamespace(cores=cores, nodes=nodes)) == options


def test_the_table_ends_with_the_sum(root: Path) -> None:
    console = Console(width=120)
    with console.capture() as shown:
        print_details(plan_details(plan(root), lambda pair: 1), console)
    lines = [line.split() for line in shown.get().splitlines() if line.strip()]
    assert lines[2][:6] == ["a", "d", "5", "1", "1", "5"]
    *_, last = [line for line in lines if " on " not in f" {' '.join(line)} "]  # then it says why, a line for a reason
    assert last[:4] == ["total", "4", "4", "20"]


def test_a_full_disk_which_names_no_file_is_told() -> None:
    with pytest.raises(UserError) as caught, refusals("c.yaml", "the plan cannot be written"):
        raise OSError(errno.ENOSPC, "No space left on device")
    (problem,) = caught.value.problems
    assert problem.what == "the plan cannot be written: No space left on device"
