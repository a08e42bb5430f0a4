"""gc removes what no run of config/*.yaml needs, all of it, and nothing else."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter, RopeScalingType

from made_up_answers import finish
from projects import GENERATE, change_yaml, plan, problems, write_dataset, write_model, write_rows, write_yaml
from shardmark.config.merge import Merged
from shardmark.files import pretty_json, sealed
from shardmark.plan.plan import Plan
from shardmark.tools.collect import Collection, collect, delete, known_runs

DAY_AGO = -86400


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in this folder with one finished run of two models on two data sets."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_model(tmp_path, name)
        write_dataset(tmp_path, f"data_{name}", id_column="name", **GENERATE)
    write_yaml(tmp_path / "config/config.yaml", {"models": ["*"], "datasets": ["*"], "max_shard_size": 2})
    finish_run(tmp_path)
    return tmp_path


def made(root: Path, **config: Any) -> Plan:
    return plan(root, results="results", **({"max_shard_size": 2} | config))


def finish_run(root: Path, **config: Any) -> Plan:
    """Plan, and leave what the run's jobs and Snakemake leave."""
    planned = made(root, **config)
    jobs = [f"infer/{m}/{d}/{s.name}" for m, d, s in shards(planned)]
    jobs += [f"stage_model/{record.full_name}" for record in planned.models]
    finish(planned)
    planned.measure()
    for job in [*jobs, f"report/{planned.report.name}"]:
        touch(root / f"results/logs/{job}.log")
        touch(root / f"results/benchmarks/{job}.tsv")
    for record in planned.models:
        staged = touch(root / f"results/staged/{record.full_name}.json")
        folders = {"model": record.source.path, "tokenizer": record.source.path}
        staged.write_text(pretty_json(sealed(folders)))
    for name in ("index.html", "leaderboard.csv", "samples/a/0.html"):
        touch(planned.report / name)
    planned.published.unlink(missing_ok=True)
    planned.published.symlink_to(planned.report.name)
    return planned


def shards(planned: Plan) -> list[tuple[str, str, Any]]:
    return [(f"{p.model.full_name}", p.dataset.name, s) for p in planned.pairs for s in p.missing]


def touch(path: Path, age: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    then = path.stat().st_mtime + age
    os.utime(path, (then, then))
    return path


def files(folder: Path) -> set[str]:
    """Every file and link below a folder."""
    found = (Path(where, name) for where, folders, names in os.walk(folder) for name in [*names, *folders])
    return {str(path.relative_to(folder)) for path in found if path.is_symlink() or path.is_file()}


def found(root: Path) -> Collection:
    (collection,) = collect(known_runs(root), root)
    return collection


def garbage(root: Path, stale: bool = False) -> set[str]:
    return {str(file.path.relative_to("results")) for file in found(root).garbage(stale)}


def run_gc(root: Path, stale: bool = False) -> None:
    delete([found(root)], stale, root)


def test_nothing_goes_while_the_configuration_is_the_same(root: Path) -> None:
    before = files(root / "results")
    assert len(before) > 40
    assert garbage(root, stale=True) == set()
    run_gc(root, stale=True)
    assert files(root / "results") == before


def test_a_model_that_is_dropped_takes_all_of_its_files_with_it(root: Path) -> None:
    finish_run(root, models=["a"])
    (root / "config/models/b.yaml").unlink()
    gone = garbage(root)
    assert gone
    run_gc(root)
    left = files(root / "results")
    assert not [name for name in left if "/b@" in name]
    assert {name.split("/")[0] for name in gone} == {
        *("benchmarks", "logs", "models", "plans", "predictions"),
        *("reports", "samples", "scores", "staged", "timings"),
    }
    assert not list((root / "results/predictions").glob("b@*")), "empty folders go, too"
    again = made(root)
    assert (sum(len(p.missing) for p in again.pairs), all(p.scored for p in again.pairs)) == (0, True)


def test_a_data_set_that_is_dropped_takes_its_tasks_and_requests_with_it(root: Path) -> None:
    (root / "config/datasets/data_b.yaml").unlink()
    run_gc(root)
    left = files(root / "results")
    assert [name for name in left if "data_b" in name and not name.startswith("plans/divisions")] == []
    assert [name for name in left if name.startswith("predictions/a@") and "data_a" in name]


def edit_a_row(root: Path) -> None:
    rows = [json.loads(line) for line in (root / "data/data_a.jsonl").read_text().splitlines()]
    write_rows(root / "data/data_a.jsonl", [rows[0] | {"question": "edited"}, *rows[1:]])


def test_answers_of_earlier_shards_stay_until_they_are_named(root: Path) -> None:
    old = {name for name in files(root / "results") if name.startswith("predictions/") and "data_a" in name}
    edit_a_row(root)
    finish_run(root)
    stale = {file.path for file in found(root).files if file.fate == "stale" and file.kind == "predictions"}
    names = {str(path.relative_to("results")) for path in stale}
    assert len(names) == 2, "one shard of each model"
    assert names < old
    assert not any(name.startswith(("predictions/", "logs/infer")) for name in garbage(root))
    assert names <= garbage(root, stale=True)
    run_gc(root, stale=True)
    left = files(root / "results")
    assert not names & left
    assert [pair.requests for pair in made(root).pairs] == [0] * 4


def test_requests_and_scores_of_earlier_rows_go(root: Path) -> None:
    edit_a_row(root)
    finish_run(root)
    kinds = {name.split("/")[0] for name in garbage(root)}
    assert {"requests", "tasks", "scores", "samples", "timings", "reports"} <= kinds
    run_gc(root)
    assert [pair.requests for pair in made(root).pairs] == [0] * 4


def test_a_report_stays_until_there_is_a_newer_one(root: Path) -> None:
    old = os.readlink(root / "results/reports/default")
    change_yaml(root / "config/models/a.yaml", description="another line in the report")
    made(root)
    assert not any(name.startswith("reports/") for name in garbage(root))
    finish_run(root)
    assert f"reports/{old}/index.html" in garbage(root)


def test_every_run_of_config_counts(root: Path) -> None:
    write_yaml(root / "config/config.yaml", {"models": ["a"], "datasets": ["*"], "max_shard_size": 2})
    assert any("/b@" in name for name in garbage(root))
    write_yaml(root / "config/other.yaml", {"models": ["b"], "datasets": ["*"], "max_shard_size": 2, "run": "other"})
    assert not any("/b@" in name and "reports" not in name for name in garbage(root))


def test_a_run_from_the_command_line_counts_as_well(root: Path) -> None:
    both = Merged({"models": ["*"], "datasets": ["*"], "max_shard_size": 2, "limit": 3}, "--config")
    finish_run(root, limit=3)
    limited = {n for n in garbage(root) if n.startswith("scores/")}
    assert len(limited) == 4
    (kept,) = collect([*known_runs(root), both], root)
    assert not [file for file in kept.garbage(stale=True) if file.kind == "scores"]


def test_a_run_that_cannot_be_planned_keeps_everything(root: Path) -> None:
    write_yaml(root / "config/other.yaml", {"models": ["c"], "datasets": ["*"]})
    found = problems(lambda: collect(known_runs(root), root))
    assert (found[0].where, "nothing is removed" in found[0].what) == ("config/other.yaml", True)
    assert "--only" in found[0].fix
    assert (found[1].where, found[1].key) == ("config/other.yaml", "models")
    (narrowed,) = collect(known_runs(root, [Path("config/config.yaml")]), root)
    assert narrowed.garbage(stale=True) == []


def test_no_results_are_named(root: Path) -> None:
    write_yaml(root / "config/config.yaml", {"models": ["*"], "datasets": ["*"], "results": "elsewhere"})
    (found,) = problems(lambda: collect(known_runs(root), root))
    assert (found.where, found.key) == ("config/config.yaml", "results")
    assert "no folder elsewhere" in found.what
    assert not (root / "elsewhere").exists()


def test_what_is_not_shardmarks_stays_and_links_are_not_followed(root: Path, tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    prediction = touch(elsewhere / "old@0123456789abcdef/d/0123456789abcdef.jsonl")
    (root / "results/predictions/old@0123456789abcdef").symlink_to(prediction.parents[1])
    (root / "results/damaged").symlink_to(elsewhere)
    touch(root / "results/notes.txt")
    touch(root / "results/scores/mine.json")
    touch(root / "results/.gitkeep")
    before = files(root / "results")
    run_gc(root, stale=True)
    assert files(root / "results") == before
    assert prediction.is_file()
    unknown = {str(file.path) for file in found(root).files if file.fate == "unknown"}
    assert unknown == {
        "results/notes.txt",
        "results/scores/mine.json",
        "results/damaged",
        "results/predictions/old@0123456789abcdef",
    }


def test_what_was_put_aside_and_what_killed_processes_left_goes(root: Path) -> None:
    gone = {
        touch(root / "results/damaged/a@0123456789abcdef/data_a/0123456789abcdef.jsonl"),
        touch(root / "results/scores/.x.json.abc123_z", DAY_AGO),
        touch(root / "results/staged/weights/.0123456789abcdef.abc123_z/model.safetensors", DAY_AGO),
        touch(root / "results/reports/default@0123456789abcdef.tmp-abc/index.html", DAY_AGO),
    }
    touch(root / "results/scores/.y.json.abc123_z")
    assert garbage(root) == {str(path.relative_to(root / "results")) for path in gone}
    run_gc(root)
    assert (root / "results/scores/.y.json.abc123_z").is_file(), "a process may be writing it"


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_planning_puts_aside_is_told_and_then_garbage(root: Path) -> None:
    next((root / "results/scores").rglob("data_a@*.json")).unlink()  # its predictions are looked at again
    for path in root.glob("results/predictions/*/data_a/*.jsonl"):
        path.write_bytes(path.read_bytes()[:-9])
    collection = found(root)
    assert len(collection.warnings) > 0
    assert all("not a complete prediction file" in warning.what for warning in collection.warnings)
    damaged = [file for file in collection.garbage(stale=False) if file.kind == "damaged files"]
    assert len(damaged) == len(collection.warnings)


def test_partial_files_stay_while_they_are_of_use(root: Path, dead: int) -> None:
    edit_a_row(root)
    planned = made(root)
    missing = next(pair for pair in planned.pairs if pair.missing)
    model, name = f"{missing.model.full_name}", missing.missing[0].name
    here, nowhere = socket.gethostname(), "nowhere"
    old = root / f"results/predictions/{model}/gone"
    wanted = touch(root / f"results/predictions/{model}/data_a/{name}.{here}-{dead}.partial", DAY_AGO)
    alive = touch(old / f"{'0' * 16}.{here}-{os.getpid()}.partial", DAY_AGO)
    fresh = touch(old / f"{'1' * 16}.{nowhere}-1.partial")
    finished = next(p for p in planned.pairs if not p.missing)
    folder = root / f"results/predictions/{finished.model.full_name}/data_b"
    whole = next(folder.glob("*.jsonl"))
    gone = {
        touch(old / f"{'2' * 16}.{here}-{dead}.partial"),
        touch(old / f"{'3' * 16}.{nowhere}-1.partial", DAY_AGO),
        touch(whole.with_name(f"{whole.stem}.{here}-{dead}.partial")),
    }
    assert {p for p in garbage(root) if p.endswith("partial")} == {str(p.relative_to(root / "results")) for p in gone}
    run_gc(root)
    assert all(path.is_file() for path in (wanted, alive, fresh))


def test_nothing_is_removed_while_snakemake_runs(root: Path) -> None:
    touch(root / "results/damaged/x")
    touch(root / ".snakemake/locks/0.input.lock")
    collected = found(root)
    (problem,) = problems(delete, [collected], False, root)
    assert "--unlock" in problem.fix
    assert (root / "results/damaged/x").is_file()


def test_a_folder_that_may_not_be_written_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(root / "results/damaged/x")
    collected = found(root)

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    (problem,) = problems(delete, [collected], False, root)
    assert (problem.where, problem.what) == ("results/damaged/x", "cannot be removed: Read-only file system")


def test_converted_weights_stay_while_a_model_is_made_of_them(root: Path) -> None:
    file = root / "weights.gguf"
    writer = GGUFWriter(file, "llama")
    writer.add_rope_scaling_type(RopeScalingType.LINEAR)  # transformers does not read it, and the folder tells
    writer.add_rope_scaling_factor(2.0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    write_yaml(root / "config/models/g.yaml", {"gguf_file": str(file), "num_gpus": 0})
    (record,) = (record for record in made(root).models if record.name == "g")
    weights = root / "results/staged/weights"
    kept = touch(weights / record.source.identity.folder / "model.safetensors")
    assert kept.parent.name != record.source.identity.gguf[:16]
    touch(weights / "0123456789abcdef/sub/model.safetensors")
    assert garbage(root) == {"staged/weights/0123456789abcdef/sub/model.safetensors"}
    run_gc(root)
    assert list(weights.rglob("*")) == [kept.parent, kept]


def test_old_logs_of_workers_go(root: Path) -> None:
    touch(root / "results/logs/workers/a-0123abcd.log", age=-7200)
    touch(root / "results/logs/workers/a-4567cdef.log")
    assert garbage(root) == {"logs/workers/a-0123abcd.log"}
