"""Predictions are read and written as they always were, each as what its keys say it is."""

import json
from typing import Any

import pytest

from answered import scored, wrote
from shardmark.files import json_line
from shardmark.records.base import Unreadable, to_json
from shardmark.records.prediction import Output, Prediction, Sampled, Scored, read_prediction

OUTPUT = Output(text="x", tokens=2, end="length", cut=3)
LINES: list[tuple[str, Prediction]] = [
    (
        '{"id": "a", "logprobs": [-0.5, -1e-07], "tokens": [1, 2], "greedy": [true, false], "cut": 3}\n',
        Scored(id="a", logprobs=[-0.5, -1e-07], tokens=[1, 2], greedy=[True, False], cut=3),
    ),
    (
        '{"id": "a", "logprobs": [-0.0], "tokens": [1], "greedy": [true], "cut": 0, "alone": 1}\n',
        scored("a", -0.0, greedy=0, alone=1),
    ),
    (
        '{"id": "a", "logprobs": [-0.5], "tokens": [1], "greedy": [true], "cut": 0, "opened": true}\n',
        scored("a", -0.5, greedy=0, opened=True),
    ),
    ('{"id": "a", "text": "\\ud83d \\u00e9", "tokens": 1, "end": "eos", "cut": 0}\n', wrote("a", "\ud83d é")),
    (
        '{"id": "a", "text": "", "tokens": 0, "end": "stop", "cut": 0, "opened": "<think>"}\n',
        wrote("a", "", tokens=0, end="stop", opened="<think>"),
    ),
    (
        '{"id": "a", "text": "ab", "tokens": 4, "end": "eos", "cut": 0, "thought": 3, '
        '"marks": [[0, "<think>"], [1, "</think>"]]}\n',
        wrote("a", "ab", tokens=4, thought=3, marks=[(0, "<think>"), (1, "</think>")]),
    ),
    (
        '{"id": "a", "samples": [{"text": "x", "tokens": 2, "end": "length", "cut": 3}], "opened": "<think>"}\n',
        Sampled(id="a", samples=[OUTPUT], opened="<think>"),
    ),
    (
        '{"id": "\\"", "samples": [{"text": "x", "tokens": 2, "end": "length", "cut": 3}]}\n',
        Sampled(id='"', samples=[OUTPUT]),
    ),
]


@pytest.mark.parametrize(("line", "prediction"), LINES, ids=range(len(LINES)))
def test_the_bytes_of_a_line_are_pinned(line: str, prediction: Prediction) -> None:
    assert json_line(to_json(prediction)) == line
    assert read_prediction(line.encode()) == prediction


@pytest.mark.parametrize(("line", "prediction"), LINES, ids=range(len(LINES)))
def test_the_order_of_keys_does_not_matter(line: str, prediction: Prediction) -> None:
    turned = json.dumps(dict(reversed(json.loads(line).items())))
    assert read_prediction(turned.encode()) == prediction


ONE: dict[str, Any] = {"id": "a", "text": "x", "tokens": 1, "end": "eos", "cut": 0}


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"id": "a"}, r"not the keys of a prediction: \['id'\]"),
        ([1], r"not the keys of a prediction: \[1\]"),
        (ONE | {"logprobs": [-1.0]}, "not the keys of a prediction"),
        (ONE | {"txet": "x"}, "unknown field `txet`"),
        ({key: value for key, value in ONE.items() if key != "cut"}, "missing required field `cut`"),
        (ONE | {"tokens": "1"}, r"Expected `int`, got `str` - at `\$.tokens`"),
        ({"id": "a", "samples": [{"text": "x"}]}, r"missing required field `tokens` - at `\$.samples\[0\]`"),
    ],
)
def test_what_is_no_prediction_is_told_by_its_key(value: Any, what: str) -> None:
    with pytest.raises(Unreadable, match=what):
        read_prediction(json.dumps(value).encode())


@pytest.mark.parametrize("line", [b"", b"{", b"null", b"\xff", b'{"id": "a", "text": "\xff"}', b"[" * 100_000])
def test_what_is_no_json_is_no_prediction(line: bytes) -> None:
    with pytest.raises(Unreadable):
        read_prediction(line)
