"""Programs of real data sets: what is known to be right passes, and what is hostile does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from requirements_check import need
from shardmark.untrusted.sandbox import Limits, run_programs

pytestmark = [pytest.mark.realdata, pytest.mark.slow, pytest.mark.timeout(1800)]
EQUAL = """
class Yes(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    def __getattr__(self, name): return Yes()
    def __call__(self, *a, **k): return Yes()
    __hash__ = int.__hash__
    __le__ = __gt__ = __ge__ = __contains__ = __lt__
    __sub__ = __rsub__ = __abs__ = __call__
"""


def rows(*files: str) -> list[dict[str, Any]]:
    need("bwrap")
    return [json.loads(line) for file in files for line in (Path(need("data")) / file).read_text().splitlines()]


def humaneval() -> list[tuple[dict[str, Any], str]]:
    """Rows with their tests; helpers that tests use come from the prompt, not from the answer."""
    found = rows("humaneval/test.jsonl")
    head = [row["prompt"].rpartition(f"def {row['entry_point']}(")[0] for row in found]
    return [
        (row, f"{helpers}{row['test']}\ncheck({row['entry_point']})") for row, helpers in zip(found, head, strict=True)
    ]


def test_all_canonical_solutions_of_humaneval_pass() -> None:
    jobs = [(row["prompt"] + row["canonical_solution"], tests) for row, tests in humaneval()]
    verdicts = run_programs(jobs, Limits())
    assert [verdict.why for verdict in verdicts if not verdict.passed] == []
    assert len(verdicts) == 164


@pytest.mark.parametrize(
    "body",
    [
        "    import os\n    os._exit(0)\n",
        "    raise SystemExit(0)\n",
        "    return Yes()\n" + EQUAL,
        "    pass\n{entry} = lambda *a, **k: __import__('os').write(1, b'{\"passed\": true}')\n",
        "    return 0\ncheck = lambda candidate: None\nabs = len = all = any = lambda *a: 0\n",
    ],
    ids=["exit", "SystemExit", "equal to everything", "printing", "names of the tests"],
)
def test_no_hostile_answer_passes_humaneval(body: str) -> None:
    known = humaneval()
    jobs = [(row["prompt"] + body.replace("{entry}", row["entry_point"]), tests) for row, tests in known]
    passed = [row["task_id"] for (row, _), v in zip(known, run_programs(jobs, Limits()), strict=True) if v.passed]
    assert passed == []


def test_all_solutions_of_mbpp_pass() -> None:
    found = rows(*(f"mbpp/{split}.jsonl" for split in ("prompt", "test", "validation", "train")))
    jobs = [(row["code"], "\n".join([row["test_setup_code"] or "", *row["test_list"]])) for row in found]
    failed = [row["task_id"] for row, v in zip(found, run_programs(jobs, Limits()), strict=True) if not v.passed]
    assert failed == []
