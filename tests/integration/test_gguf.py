"""A GGUF model is dequantised once; here Gemma 3 270M, which comes from PyPI."""

from pathlib import Path

import pytest

from quick_engine import use_quick_scoring
from shardmark.engine.stage import CHECKSUMS, checksums
from shardmark.files import read_json
from workflow import Project

pytestmark = pytest.mark.slow
CONFIG = {"run": "test", "models": ["gemma3_270m"], "datasets": ["capitals"], "limit": 4}
ROWS = [("France", "Paris"), ("Japan", "Tokyo"), ("Italy", "Rome"), ("Egypt", "Cairo")]


@pytest.mark.gemma
@pytest.mark.timeout(600)
def test_gemma_knows_capitals_and_is_dequantised_once(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", **CONFIG)
    use_quick_scoring(project)
    names = [name for _, name in ROWS]
    lines = [f'{{"country": "{c}", "names": {names}, "label": {n}}}'.replace("'", '"') for n, (c, _) in enumerate(ROWS)]
    (project.folder / "capitals.jsonl").write_text("\n".join(lines))
    (project.folder / "config/datasets/capitals.yaml").write_text(
        "source: {file: capitals.jsonl}\nkind: choice\nprompt: The capital of {{ country }} is\n"
        "choices: names\ntarget: label\nmetrics: [accuracy]\n"
    )
    project.run()
    assert [sample["scores"]["accuracy"] for sample in project.samples().values()] == [1.0] * 4
    (weights,) = (project.folder / "results/staged/weights").iterdir()
    assert checksums(weights) == read_json(weights / CHECKSUMS)
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in weights.iterdir()), "results may be shared"
    made = (weights / "model.safetensors").stat().st_mtime_ns
    project.run("--until", "stage_model", "--config", "max_seq_len=64")
    assert len(list((project.folder / "results/staged").glob("gemma3_270m@*.json"))) == 2
    assert (weights / "model.safetensors").stat().st_mtime_ns == made
