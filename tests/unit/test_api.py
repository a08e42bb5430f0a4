"""shardmark.api: what docs/api.md says of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from documents import blocks
from finished_runs import finished_run
from projects import run_config, write_dataset, write_model, write_yaml
from shardmark import api
from shardmark.errors import UserError
from workflow import ROOT


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("run"))


def test_a_plan_is_that_of_the_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "d")
    write_yaml(tmp_path / "config/config.yaml", run_config(tmp_path, limit=3))
    monkeypatch.chdir(tmp_path)
    (pair,) = api.plan().pairs
    assert (pair.model, pair.dataset, pair.requests_to_infer, pair.scored) == ("m", "d", 3, False)
    (pair,) = api.plan("config/config.yaml", local=False, limit=2).pairs
    assert pair.requests_to_infer == 2
    assert not (tmp_path / "config/benchmark.lock").exists()
    with pytest.raises(UserError, match="no file config/models/n"):
        api.plan(models=["n"])


def test_a_report_tells_what_it_is_about(finished: Path) -> None:
    found = api.report(finished)
    assert (found.run, found.models, found.missing) == ("trial", ["bad", "good"], [])
    assert {*found.datasets} == {"sums", "colours", "texts"}
    assert found.html.is_file()


def test_scores_are_a_row_for_each_metric(finished: Path) -> None:
    found = api.scores(finished)
    (row,) = found.query("model == 'good' and dataset == 'colours' and metric == 'accuracy'").to_dict("records")
    assert row["n"] == 12
    assert row["ci95_low"] <= row["value"] <= row["ci95_high"]
    assert {*found["status"]} == {"scored"}


def test_samples_are_those_of_the_scores(finished: Path) -> None:
    every, some = api.samples(finished), api.samples(str(finished), model="good", dataset="sums")
    assert len(every) == 2 * (10 + 12 + 4)
    assert {(model, dataset) for model, dataset in zip(some["model"], some["dataset"], strict=True)} == {
        ("good", "sums")
    }
    assert some["row"].iloc[0]["question"] == "0 + 1?"
    value = api.scores(finished).query("model == 'good' and dataset == 'sums' and is_primary")["value"].item()
    assert some["score"].mean() == pytest.approx(value)
    with pytest.raises(UserError, match="the report has no model 'god'"):
        api.samples(finished, model="god")


def test_comparisons_are_those_of_the_command(finished: Path) -> None:
    (found,) = api.compare(finished)
    assert {found.first, found.second} == {"good", "bad"}
    assert api.changes(finished, finished) == []


def test_the_example_in_the_document_runs(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results/reports").mkdir(parents=True)
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "d")
    write_yaml(tmp_path / "config/config.yaml", run_config(tmp_path))
    monkeypatch.chdir(tmp_path)
    (code,) = (block.text for block in blocks("python") if block.document == "docs/api.md")
    named = code.replace("results/reports/demo", str(finished))
    exec(compile(named, "docs/api.md", "exec"), {})


def test_importing_it_imports_nothing_large() -> None:
    code = (
        "import sys; import shardmark.api, shardmark.cli; print([n for n in sys.modules if n in sys.argv[1].split()])"
    )
    large = "torch pandas datasets evaluate snakemake pyarrow pydantic transformers numpy rich"
    done = subprocess.run(
        [sys.executable, "-c", code, large], cwd=ROOT / "scripts", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
