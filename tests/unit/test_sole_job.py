"""Two jobs for one prediction file, of two runs with one results folder, come one after the other."""

import subprocess
import sys
import time
from pathlib import Path

from shardmark.processes.sockets import sole_job
from workflow import ROOT

HOLDS = """
import sys, time
from pathlib import Path
from shardmark.processes.sockets import sole_job
with sole_job(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(0.7)
    Path(sys.argv[1]).touch()
"""


def test_who_comes_second_finds_what_the_first_has_done(tmp_path: Path) -> None:
    out, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    words = [sys.executable, "-c", HOLDS, str(out)]
    with subprocess.Popen(words, cwd=ROOT / "scripts", stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        assert first.stdout.readline() == "in\n"
        with sole_job(other):
            assert not out.exists()
        with sole_job(out):
            assert out.exists()


def test_one_that_is_killed_is_waited_for_no_longer(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLDS.replace("0.7", "60"), str(tmp_path / "a.jsonl")]
    with subprocess.Popen(words, cwd=ROOT / "scripts", stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        first.stdout.readline()
        first.kill()
        begin = time.monotonic()
        with sole_job(tmp_path / "a.jsonl"):
            assert time.monotonic() - begin < 10
