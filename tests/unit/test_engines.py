"""Two engines that share a shard are noted together, and what was measured of them is said at its worst."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shardmark.errors import UserError
from shardmark.records.engine import EngineUse, joined
from shardmark.records.model_brief import BriefEngine, read_brief
from shardmark.records.score import Counts
from shardmark.records.trailer import Made, Work, both
from workflow import ROOT


def made(**facts: Any) -> Made:
    usual: dict[str, Any] = {
        "inferred": 2,
        "reused": 0,
        "seconds": 1.0,
        "load_seconds": 3.0,
        "work": Work(read=10, written=4, longest=2),
        "started": "2026-01-01",
        "finished": "2026-01-02",
        "batch_size": "auto",
        "hardware": {},
        "packages": {"torch": "2"},
    }
    return Made(**(usual | facts))


def test_what_two_engines_did_is_added_up() -> None:
    first = made(packages={"torch": "2", "vllm": "1", "transformers": "5.1"}, engines=[EngineUse(name="vllm")])
    second = made(
        reused=3,  # two of them from the first
        work=Work(read=1, written=0),
        finished="2026-01-03",
        packages={"torch": "2", "transformers": "5.2"},
        engines=[EngineUse(name="tree")],
    )
    found = both(first, second)
    assert (found.inferred, found.reused, found.seconds, found.load_seconds) == (4, 1, 2.0, 6.0)
    assert found.work == Work(read=11, written=4, longest=2)
    assert (found.started, found.finished) == ("2026-01-01", "2026-01-03")
    assert found.packages == {"torch": "2", "vllm": "1", "transformers": "5.1 and 5.2"}
    assert [use.name for use in found.engines] == ["vllm", "tree"]


def test_of_several_shards_the_worst_is_said() -> None:
    uses = [
        EngineUse(name="vllm", repeated=4, batch_invariant=True),
        EngineUse(name="vllm", repeated=4, differing=1, batch_invariant=True),
        EngineUse(name="vllm", batch_invariant=False),
        EngineUse(name="tree"),
    ]
    assert joined(uses) == [EngineUse(name="vllm", repeated=4, differing=1), EngineUse(name="tree")]
    assert joined([]) == []


def test_the_report_says_what_was_measured_and_what_was_not() -> None:
    texts = [EngineUse(name="vllm", repeated=4, differing=1).text, EngineUse(name="vllm", batch_invariant=True).text]
    assert texts[0] == "vLLM; 1 of 4 greedy answers asked again alone differed"
    assert texts[1] == "vLLM in its batch-invariant mode; whether answers depend on the batch was not measured"
    counts = Counts(samples=9, requests=9, truncated=0, unanswered=0, repeated=4)
    assert counts.remarks() == []
    assert Counts(samples=9, requests=9, truncated=0, unanswered=0, repeated=4, differing=1).remarks() == [
        "1 of 4 answers asked again alone differed"
    ]


def test_a_client_reads_its_model_without_importing_msgspec() -> None:
    """It is started for every shard, and msgspec takes a fifth of its imports."""
    code = "import sys, infer; print({'msgspec', 'pydantic', 'numpy'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_a_model_without_engines_of_its_own_has_one_in_the_python_of_the_job(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text('{"name": "m", "file": "m.yaml", "settings": {"num_gpus": 0}}')
    assert read_brief(file).engines == [BriefEngine()]
    file.write_text('{"name": "m", "file": "m.yaml", "settings": {}}')
    with pytest.raises(UserError, match=r"m\.json: cannot be read: .*num_gpus.*\n.*fix: delete it"):
        read_brief(file)
