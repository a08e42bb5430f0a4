"""benchmarks/gpu.py, which nobody may have a GPU to try on, keeps to its time. Its parts take minutes on a CPU."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_no_part_begins_without_time(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--tiny", "--seconds", "0"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "gpu.json")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("left out, no time is left") == 6
