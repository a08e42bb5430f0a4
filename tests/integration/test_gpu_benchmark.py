"""benchmarks/gpu.py, which nobody may have a GPU to try on, works with tiny models on a CPU, and keeps to its time."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import tiny_models

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks/gpu.py"


@pytest.mark.slow
def test_each_part_of_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    script = runpy.run_path(str(SCRIPT), run_name="gpu")
    with pytest.raises(SystemExit, match="0"):
        script["parse"](["--help"])
    assert "one run of at most eight minutes" in capsys.readouterr().out
    tiny_models.save_tokenizer(tmp_path)
    shape = script["TINY"]["tiny"]._replace(documents=1, prompts=2)
    found = {
        kind: script["measured"](kind, tmp_path, shape, "cpu", "float32")
        for kind in script["KINDS"]
        if "lm-eval" not in kind and kind != "generate_batch"
    }
    written = [result["found"] for kind, result in found.items() if "scoring" not in kind]
    assert written == [2 * shape.new_tokens] * 3
    assert len(found["Shardmark, scoring"]["found"]) == 4
    assert all(script["multiplications"](tmp_path, shape, scoring) > 0 for scoring in (True, False))


@pytest.mark.slow
def test_no_part_begins_without_time(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--tiny", "--seconds", "0"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "gpu.json")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("left out, no time is left") == 7
