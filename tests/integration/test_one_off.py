"""Runs that need no file: settings from the command line."""

from pathlib import Path

import pytest

from quick_engine import use_quick_scoring
from unit.report.fake_results import read_index
from workflow import Project

CONFIG = {"run": "test", "models": ["demo_*"], "datasets": ["demo_grammar"], "limit": 4}


@pytest.mark.slow
def test_a_model_without_a_file_is_evaluated(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", **CONFIG)
    use_quick_scoring(project)
    options = ["hf_path=demo/models/small", "tokenizer_path=demo/models/small", "num_gpus=0", "batch_size=2"]
    options += ["max_seq_len=24", "batch_padding=false", "model_kwargs={trust_remote_code: false}"]
    options += ["tokenizer_kwargs={padding_side: left, truncation: left, use_fast: true}"]
    project.run("--config", *options)
    assert not (project.results / "reports/test").exists()  # which is the report of the run's file
    (link,) = (path for path in (project.results / "reports").glob("test-small-*") if path.is_symlink())
    (project.results / "reports/test").symlink_to(link.readlink())
    samples = project.samples()
    assert {model for model, _, _ in samples} == {"small"}
    assert all(sample["truncated"] > 0 for sample in samples.values())  # its window is shorter than the sentences
    (model,) = read_index(project.results / "reports/test", "demo_grammar")["models"]
    assert "4 truncated prompts" in model["summary"]


def test_globs_and_lists_choose_models_and_data_sets(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", **CONFIG)
    jobs = project.planned("--config", "models=[demo_s*,demo_large]", "datasets=[*demo_*]", "limit=3")
    assert jobs == {"stage_model": 2, "infer": 10, "score": 10, "report": 1}


def test_the_cluster_profile_plans_gpu_models_on_a_machine_without_any(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", **CONFIG)
    project.edit_yaml("config/models/demo_large.yaml", num_gpus=2)
    output = project.run("-n", profile="slurm")
    assert "5 models x 1 data set" in output


def test_rows_are_read_from_the_data_root(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", **CONFIG)
    (tmp_path / "data/piqa").mkdir(parents=True)
    row = '{"goal": "boil water", "sol1": "heat it", "sol2": "freeze it", "label": %d}\n'
    (tmp_path / "data/piqa/validation.jsonl").write_text(row % 0 + row.replace("boil", "melt") % 1)
    output = project.run("-n", "--config", f"data_root={tmp_path / 'data'}", "datasets=piqa_ppl", "models=demo_small")
    assert "1 model x 1 data set -> 1 shard, 1 to run" in output
