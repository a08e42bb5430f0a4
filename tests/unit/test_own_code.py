"""Metrics and filters in Python files of the user's own: allowed, bounded, hashed, and errors with their place."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import made_up_answers
from projects import GENERATE, plan, problems, write_dataset, write_model
from shardmark import layout
from shardmark.errors import UserError
from shardmark.files import read_json, read_jsonl
from shardmark.metrics.own import OwnMetric
from shardmark.tools.scaffold import scaffold
from shardmark.untrusted import own_code
from shardmark.untrusted.own_code import OwnCodeError, OwnFunction, faults

METRIC = "def score(prediction, references, row, worth=1.0):\n    return worth * (prediction in references)\n"
FILTER = "def find(text, row):\n    return text.strip() if row['name'] != 'n3' else None\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_model(tmp_path, "tiny")
    (tmp_path / "config/datasets").mkdir(parents=True)
    (tmp_path / "config/datasets/mine.py").write_text(METRIC, "utf-8-sig")  # as Windows' editors do
    (tmp_path / "taken.py").write_text(FILTER)
    metrics = [{"file": "mine.py", "settings": {"worth": 0.5}}, "exact_match"]
    write_dataset(tmp_path, "sums", **GENERATE | {"metrics": metrics, "filters": [{"file": "taken.py"}]})
    write_dataset(tmp_path, "others", **GENERATE)
    return tmp_path


def scores(root: Path, **config: Any) -> tuple[dict[str, Any], list[Any]]:
    made = plan(root, datasets=["sums"], own_code=True, **config)
    made_up_answers.finish(made)
    (pair,) = made.pairs
    place = {"model": pair.model.full_name, "dataset": "sums", "task": pair.dataset.digest}
    samples = read_jsonl(layout.SAMPLES.file(made.results, **place))
    return read_json(layout.SCORES.file(made.results, **place)), list(samples)


def test_own_metrics_and_filters_score(root: Path) -> None:
    found, samples = scores(root)
    assert list(found["metrics"]) == ["mine", "exact_match"]
    assert found["metrics"]["mine"]["value"] == pytest.approx(0.5 / 5)  # the model says 1, right for the first row
    assert [line["answer"] for line in samples] == ["1", "1", "1", None, "1"]


def test_what_a_file_remembers_is_not_there_for_the_next_scores(root: Path) -> None:
    counts = (
        "n = 0\n\n\ndef score(prediction, references, row, worth):\n    global n\n    n += 1\n    return worth / n\n"
    )
    (root / "config/datasets/mine.py").write_text(counts)
    first, _ = scores(root)
    shutil.rmtree(root / "results/scores")
    assert scores(root)[0]["metrics"] == first["metrics"]


def test_only_their_data_sets_are_scored_anew_when_they_change(root: Path) -> None:
    before = {each.name: each.digest for each in plan(root, own_code=True).datasets}
    made_up_answers.finish(plan(root, own_code=True))
    (root / "config/datasets/mine.py").write_text(METRIC.replace("prediction in", "prediction not in"))
    after = plan(root, own_code=True)
    changed = {each.name for each in after.datasets if each.digest != before[each.name]}
    assert changed == {"sums"}
    assert [pair.requests for pair in after.pairs] == [0, 0]
    # What is scored is what was planned, wherever the file is by then.
    (root / "config/datasets/mine.py").unlink()
    made_up_answers.finish(after)


def test_a_run_must_allow_them(root: Path) -> None:
    found = problems(plan, root)
    assert [problem.key for problem in found] == ["metrics.0.file", "filters.0.file"]
    assert "own_code: true" in found[0].fix


@pytest.mark.parametrize(
    ("code", "place", "said"),
    [
        ("def score(prediction, references, row:\n    pass", ":1", "not valid Python"),
        ("x = 1\n", ":1", "it defines no function score"),
        ("\ndef score(prediction, references): pass", ":2", "is called with 3 arguments, but takes 2"),
        ("def score(a, b, c, d, worth=1): pass", ":1", "needs 'd', which its settings do not name"),
        ("def score(a, b, c): pass", ":1", "has no argument 'worth', which its settings name"),
        ("def score(a, b, c, *, worth, other): pass", ":1", "needs 'other', which its settings do not name"),
        (b"# \xff", "", "not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_before_anything_runs(
    root: Path, code: str | bytes, place: str, said: str
) -> None:
    path = root / "config/datasets/mine.py"
    path.write_bytes(code if isinstance(code, bytes) else code.encode())
    (problem,) = problems(plan, root, own_code=True)
    assert problem.where == f"{path}{place}"
    assert said in problem.what


@pytest.mark.parametrize("signature", ["a, b, c, worth", "a, b, c, **more", "*all, worth", "a, b, c, d=1, worth=2"])
def test_functions_that_can_be_called_are_fine(signature: str) -> None:
    assert not list(faults(f"def score({signature}): pass", "score", 3, {"worth"}))


def test_a_missing_file_is_told_with_a_way_to_make_one(root: Path) -> None:
    (root / "taken.py").unlink()
    (problem,) = problems(plan, root, own_code=True)
    assert (problem.key, problem.what) == ("filters.0.file", "no file taken.py")


@pytest.mark.parametrize(
    ("body", "place", "said"),
    [
        ("    x = 1\n    return 1 / 0", "mine.py:3", "ZeroDivisionError: division by zero (sample 0)"),
        ("    return float('nan')", "mine.py", "score returned nan, which is not a finite number (sample 0)"),
        ("    return 'a'", "mine.py", "score returned 'a', which is not a finite number (sample 0)"),
        (
            "    return {1}",
            "mine.py",
            "a real number, not 'set' (sample 0)",
        ),
        ("    return 10**400", "mine.py", "which is not a finite number (sample 0)"),
        ("    return 5", "mine.py", "score returned 5, but a fraction, which is shown in percent, is from 0 to 1"),
        ("    input()", "mine.py:2", "EOFError"),
        ("    raise ValueError('x' * 9999)", "mine.py:2", "ValueError: " + "x" * 988 + " (sample 0)"),
        ("    import os; os._exit(3)", "mine.py", "score: its process ended"),
        ("    raise SystemExit", "mine.py:2", "SystemExit"),
        ("    import absent_package", "mine.py:2", "No module named 'absent_package'"),
    ],
)
def test_what_fails_names_file_line_and_sample(root: Path, body: str, place: str, said: str) -> None:
    (root / "config/datasets/mine.py").write_text(f"def score(a, b, c, worth):\n{body}\n")
    with pytest.raises(UserError) as error:
        scores(root)
    (problem,) = error.value.problems
    assert problem.where == place
    assert said in problem.what


def test_what_fails_in_a_filter_names_file_line_and_sample(root: Path) -> None:
    (root / "taken.py").write_text("def find(text, row):\n    return row['absent']\n")
    with pytest.raises(UserError, match=r"sums.yaml: sample 0: filters.*taken.py:2: KeyError: 'absent'"):
        scores(root)


def test_calls_are_bounded_in_time_and_memory_and_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_code, "SECONDS", 0.2)
    code = "import random\nlot = random.random\ndef f(what):\n    return eval(what)\n"
    function = OwnFunction("f.py", code, "f")
    try:
        with pytest.raises(OwnCodeError, match="it takes too long"):
            function("[1 for _ in iter(int, 1)]")
        with pytest.raises(OwnCodeError, match="MemoryError"):
            function("'x' * 2**40")
        assert function("lot()") == function("lot()")
        assert function("[print('noise'), 2][1]") == 2
    finally:
        function.stop()


def test_what_a_fork_returns_is_no_answer_to_the_next_call() -> None:
    function = OwnFunction("f.py", "import os\ndef f(n):\n    return (n, os.fork())[0]\n", "f")
    try:
        assert [function(n) for n in range(3)] == [0, 1, 2]
    finally:
        function.stop()


@pytest.mark.parametrize(
    "code",
    [
        "from decimal import Decimal\ndef f():\n    return Decimal('0.5')\n",
        "import numpy\ndef f():\n    return numpy.float32(0.5)\n",
        "import pickle\nclass Half:\n    v = 0.5\ndef f():\n    return pickle.loads(pickle.dumps(Half())).v\n",
    ],
)
def test_numbers_and_classes_of_all_kinds_can_be_used(code: str) -> None:
    function = OwnFunction("f.py", code, "f")
    try:
        assert function() == 0.5
    finally:
        function.stop()


def test_no_variable_of_the_run_reaches_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "x")
    function = OwnFunction("f.py", "import os\ndef f():\n    return dict(os.environ)\n", "f")
    try:
        assert "SECRET_KEY" not in function()
    finally:
        function.stop()


def test_an_own_metric_is_called_after_its_file_and_says_which_way_is_better() -> None:
    metric = OwnMetric(file="a/distance.py", lower_is_better=True, fraction=False)
    assert (metric.title(1), metric.higher_is_better, metric.percent) == ("distance", False, False)
    assert metric.model_copy(update={"label": "d"}).title(1) == "d"


@pytest.mark.parametrize("is_filter", [False, True])
def test_a_scaffold_passes_its_own_test_and_is_a_data_sets(root: Path, is_filter: bool) -> None:
    file, test = scaffold("fresh", root / "config/metrics", is_filter)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert re.search(r"[34] passed", done.stdout), done.stdout
    key = "filters" if is_filter else "metrics"
    write_dataset(root, "sums", **GENERATE | {key: [{"file": str(file.relative_to(root))}]})
    found, _ = scores(root)
    assert list(found["metrics"]) == ["exact_match" if is_filter else "fresh"]
    (problem, _) = problems(scaffold, "fresh", root / "config/metrics", is_filter)
    assert problem.what == "already exists"
