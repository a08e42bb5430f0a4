"""The local `evaluate` modules give the right numbers, and need no network and no cache for it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from shardmark.config import Metric
from shardmark.metrics import modules
from shardmark.metrics.modules import load_metric

SCRIPTS = Path(modules.__file__).parents[2]


def exact_match(predictions: list[str], references: list[list[str]], **options: Any) -> list[float]:
    result = load_metric("exact_match").compute(predictions=predictions, references=references, **options)
    assert result["exact_match"] == pytest.approx(sum(result["samples"]) / len(predictions))
    return list(result["samples"])


def test_accuracy_is_the_share_of_right_labels() -> None:
    result = load_metric("accuracy").compute(predictions=[0, 1, 2, 2], references=[[0], [1], [2], [3]])
    assert result == {"accuracy": 0.75, "samples": [1.0, 1.0, 1.0, 0.0]}


def test_no_label_is_wrong() -> None:
    assert load_metric("accuracy").compute(predictions=[-1], references=[[0]])["samples"] == [0.0]


def test_exact_match_wants_the_same_text() -> None:
    assert exact_match(["yes", "Yes", "yes ", ""], [["yes"]] * 4) == [1.0, 0.0, 0.0, 0.0]


def test_any_of_several_references_counts() -> None:
    assert exact_match(["b", "c", "d"], [["a", "b"], ["c"], []]) == [1.0, 1.0, 0.0]


def test_case_can_be_ignored() -> None:
    assert exact_match(["YES", "STRASSE", "no"], [["yes"], ["Straße"], ["yes"]], ignore_case=True) == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("answer", "reference", "equal"),
    [
        ("3.0", "3", True),
        ("1,234.50", "1234.5", True),
        ("$18", "18", True),
        (" 18\n", "18", True),
        ("3.001", "3", True),
        ("3.1", "3", False),
        ("-3", "3", False),
        ("three", "3", False),
        ("three", "three", False),
        ("nan", "nan", False),
        ("", "0", False),
    ],
)
def test_with_a_tolerance_answers_are_numbers(answer: str, reference: str, equal: bool) -> None:
    assert exact_match([answer], [[reference]], tolerance=0.01) == [float(equal)]


def test_a_tolerance_of_0_is_one() -> None:
    assert exact_match(["3.0", "3.01"], [["3"], ["3"]], tolerance=0.0) == [1.0, 0.0]


def test_texts_of_any_alphabet_pass_through() -> None:
    assert exact_match(["東京", "a\u2028b", "\x00", "😀"], [["東京"], ["a\u2028b"], ["\x00"], ["😀"]]) == [1.0] * 4


def test_the_metrics_are_those_that_a_data_set_may_name() -> None:
    union, _ = get_args(Metric)
    names = [name for kind in get_args(union) for name in get_args(kind.model_fields["name"].annotation)]
    files = {path.stem for path in Path(modules.__file__).parent.glob("*.py") if "evaluate.Metric" in path.read_text()}
    assert sorted(names) == sorted(files)
    for name in names:
        assert load_metric(name).name == name


ALONE = """
import socket

def refuse(*_):
    raise AssertionError("a metric wants the network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse

import sys
from shardmark.metrics.modules import load_metric

for name, values in (("accuracy", [1]), ("exact_match", ["a"])):
    references = values if name == "accuracy" else [values]
    assert load_metric(name).compute(predictions=values, references=references)["samples"] == [1.0]
assert not {"torch", "transformers"} & sys.modules.keys(), "seconds of imports for nothing"
"""


def test_two_processes_load_metrics_at_once_without_network_or_cache(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"PYTHONPATH": str(SCRIPTS), "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "empty")}
    processes = [
        subprocess.Popen([sys.executable, "-c", ALONE], env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
