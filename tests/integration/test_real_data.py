"""The data sets of config/datasets on the real data they are for."""

import os
from pathlib import Path

import pytest
import yaml

from workflow import ROOT, Project

DATASETS = ("siqa_gen", "gsm8k_gen", "ARC_c_ppl", "piqa_ppl", "boolq_ppl", "winograd_ppl")
"Those of config/gemma.yaml: each row is a request of its own."


@pytest.mark.slow
@pytest.mark.realdata
def test_every_row_of_these_data_sets_becomes_a_request(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", run="test", models=["demo_small"], datasets=list(DATASETS))
    project.edit_yaml("config/models/demo_small.yaml", max_out_len=64)  # its window is shorter than gsm8k_gen's answers
    data_root = Path(os.environ["SHARDMARK_DATA_ROOT"]).resolve()
    project.run("-n", "--config", f"data_root={data_root}")
    for name in DATASETS:
        settings = yaml.safe_load((ROOT / f"config/datasets/{name}.yaml").read_text())
        rows = (data_root / settings["source"]["local"]).read_text().count("\n")
        files = (project.folder / "results/requests" / name).glob("*.jsonl")
        requests = sum(file.read_text().count("\n") for file in files)
        assert 0.95 * rows < requests <= rows
