"""Cases of programming contests: scripts are given a text and must print another, functions must return a value."""

import json
import math
from typing import Any

import pytest

from repository_datasets import DATASETS, rendered
from requirements_check import need
from shardmark.filters.chain import filter_steps
from shardmark.metrics import METRICS
from shardmark.untrusted import sandbox
from shardmark.untrusted.cases import read_cases
from shardmark.untrusted.sandbox import Limits, run_programs
from shardmark.untrusted.templates import RenderError


@pytest.fixture
def sandboxed(monkeypatch: pytest.MonkeyPatch) -> None:
    need("bwrap")
    monkeypatch.setattr(sandbox, "PATIENCE", (2, 4))


def target(*cases: tuple[str, str], function: str | None = None) -> str:
    return json.dumps({"cases": [{"input": i, "output": o} for i, o in cases], "function": function})


def passed(programs: list[str], tests: str, **settings: Any) -> list[float]:
    metric = METRICS["pass_at_k"](name="pass_at_k", cases=True, memory_mb=512, **settings)
    metric.check_targets([tests])
    scores: list[float] = metric.scores(programs, [tests] * len(programs))  # type: ignore[attr-defined]
    return scores


SUMS = target(("2 3\n", "5\n"), ("10 -4", "6"))


def test_a_script_may_read_and_print_as_it_likes(sandboxed: None) -> None:
    programs = [
        "a, b = map(int, input().split())\nprint(a + b)",
        "import sys\nprint(sum(map(int, sys.stdin.read().split())))\nsys.exit(1)",
        "print(sum(map(int, open(0).read().split())))",
        "import sys\nsys.stdout.buffer.write(b'%d  \\n\\n' % sum(map(int, sys.stdin.buffer.readline().split())))",
        "import os\nos.write(1, str(sum(map(int, os.read(0, 99).split()))).encode())",
        "def main():\n    print(sum(map(int, input().split())))\nif __name__ == '__main__':\n    main()",
        "import threading as t\ndef main():\n    print(sum(map(int, input().split())))\nt.Thread(target=main).start()",
    ]
    assert passed(programs, SUMS) == [1.0] * len(programs)


def test_a_script_that_prints_something_else_fails(sandboxed: None) -> None:
    programs = [
        "print(5)",
        "a, b = map(int, input().split())\nprint(a + b)\nprint()\nprint(1)",
        "raise ValueError",
        "",
        "import os\nos._exit(0)",
        "print('5' if '2' in input() else '6.1')",
    ]
    assert passed(programs, SUMS) == [0.0] * len(programs)


def test_numbers_may_be_written_in_other_ways(sandboxed: None) -> None:
    assert passed(["print('0.50 1')", "print('0.5  1.0')", "print('0.51 1')"], target(("", "0.5 1"))) == [1, 1, 0]


def test_a_function_is_called_with_each_line_alone_or_in_its_class(sandboxed: None) -> None:
    tests = target(("[1, 2]\n3", "[4, 5]"), ("[]\n1", "[]"), function="shift")
    programs = [
        "class Solution:\n    def shift(self, values, by):\n        return [value + by for value in values]",
        "def shift(values, by):\n    return tuple(value + by for value in values)",
        "class Solution:\n    def shift(self, values, by):\n        return values",
        "def move(values, by):\n    return [value + by for value in values]",
    ]
    assert passed(programs, tests) == [1, 1, 0, 0]


def test_the_timeout_is_of_each_case(sandboxed: None) -> None:
    burn = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass\nprint(input())"
    cases = target(*[(str(n), str(n)) for n in range(3)])
    assert passed([burn.format(0.4), burn.format(3)], cases, timeout=1) == [1, 0]


def test_a_program_sees_no_cases_and_tests_of_other_kinds_run_as_before(sandboxed: None) -> None:
    spy = "import sys\nprint([m for m in sys.modules if 'json' in m or 'tests' in m], input())"
    assert passed([spy], SUMS) == [0]
    assert [each.passed for each in run_programs([("def f(): return 1", "assert f() == 1")], Limits(2, 512))] == [True]


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ("no json", "Invalid JSON"),
        ("{}", "cases: Field required"),
        (json.dumps({"cases": []}), "cases: there are none"),
        (json.dumps({"cases": [{"input": 1, "output": ""}]}), "cases.0.input"),
        (target(("x", "1"), function="f"), "Expecting value"),
        (target(("1", "1"), function="f()"), "is not a name"),
    ],
)
def test_cases_that_cannot_be_run_are_refused_before_anything_is_asked(tests: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_cases(tests)
    with pytest.raises(RenderError, match="not JSON of cases"):
        METRICS["pass_at_k"](name="pass_at_k", cases=True).check_targets([tests])


def test_tests_that_import_what_the_sandbox_lacks_are_refused_before_anything_is_asked() -> None:
    metric = METRICS["pass_at_k"](name="pass_at_k")
    metric.check_targets(
        ["import math, os.path\nfrom collections import abc\ntry:\n    import numpy\nexcept ImportError: 0"]
    )
    with pytest.raises(RenderError, match="the tests import numpy, pandas, but the sandbox has only Python's own"):
        metric.check_targets(["import numpy as np\nfrom pandas.core import frame\nassert f() == 1"])


def test_scores_of_tests_as_before_keep_their_digest() -> None:
    assert METRICS["pass_at_k"](name="pass_at_k").model_dump().keys() == {
        "name", "label", "chain", "k", "timeout", "memory_mb",
    }  # fmt: skip


RIGHT = {
    "humaneval_plus_gen": "```python\ndef half_0(x):\n    return x / 2\n```",
    "mbpp_plus_gen": " 'def add_0(x):\n    return x + 0.0' \n\nYou are an expert Python programmer, and here is",
    "livecodebench_gen": "Here:\n```python\na = int(input())\nprint(a + int(input()))\n```",
}
WRONG = {
    "humaneval_plus_gen": "    return x / 2 + 1e-3",
    "mbpp_plus_gen": "def add_0(x):\n    return x + 0.001",
    "livecodebench_gen": "```python\nprint(3)\n```",
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_to_a_data_set_passes_and_a_wrong_one_does_not(name: str, sandboxed: None) -> None:
    settings, sample = DATASETS[name].settings, rendered(DATASETS[name])[0]
    programs = [filter_steps([text], settings.filters, sample.row)[-1][0] or "" for text in (RIGHT[name], WRONG[name])]
    (metric,) = settings.metrics
    assert metric.scores(programs, sample.target * 2) == [1, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["humaneval_plus_gen", "mbpp_plus_gen"])
def test_only_infinity_is_close_to_infinity(name: str) -> None:
    (target,) = rendered(DATASETS[name])[0].target
    names: dict[str, Any] = {}
    exec(target[target.index("class np:") : target.index("def is_floats")], names)
    pairs: list[Any] = [(math.inf, math.inf), (1.0 + 1e-9, 1.0), ([2, math.inf], [2.0, math.inf])]
    pairs += [(5, math.inf), (-math.inf, math.inf), (math.inf, 5), ([5], [math.inf]), (1.1, 1.0)]
    assert [names["np"].allclose(*pair) for pair in pairs] == [True] * 3 + [False] * 5


def test_livecodebench_has_functions_and_hidden_cases_that_are_pickled() -> None:
    targets = [json.loads(sample.target[0]) for sample in rendered(DATASETS["livecodebench_gen"])]
    assert [target["function"] for target in targets] == [None, "add", None, "add", None]
    assert [case["output"] for case in targets[4]["cases"]] == ["7", "11", "4"]
