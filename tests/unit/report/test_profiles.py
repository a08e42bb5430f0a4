"""How sure models are, how long outputs are, and what of it a report keeps."""

import json
import math
import random
from typing import Any

import numpy as np
import pytest

from shardmark.files import json_line
from shardmark.records.base import to_json
from shardmark.records.sample import read_parts
from shardmark.report.profiles import Profile, Profiler, confidence
from unit.report.fake_results import make_sample


def profile(*samples: dict[str, Any], cut: bool = False) -> Profile:
    profiler = Profiler()
    for sample in samples:
        profiler.add(read_parts(json_line(to_json(make_sample(**sample))).encode()), cut)
    return profiler.profile()


def choice(logprobs: list[float], target: Any) -> dict[str, Any]:
    answer = logprobs.index(max(logprobs))
    return {"choices": ["a"] * len(logprobs), "logprobs": logprobs, "answer": answer, "target": target, "output": "a"}


def test_confidence_is_the_softmax_of_the_chosen_one() -> None:
    assert confidence([math.log(0.2), math.log(0.6)], 1) == pytest.approx(0.75)
    assert confidence([-1000.0, -2000.0], 1) == pytest.approx(0, abs=1e-300)
    for unknown in ([-1.0, None], [-1.0], []):
        assert confidence(unknown, 0) is None
    assert confidence([-1.0, -2.0], None) is None


def test_bins_and_calibration_error_are_those_of_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve

    draw = random.Random(4)
    samples = [choice([draw.uniform(-4, 0) for _ in range(2)], draw.randrange(2)) for _ in range(300)]
    found = profile(*samples)
    sure = [confidence(sample["logprobs"], sample["answer"]) for sample in samples]
    right = [sample["answer"] == sample["target"] for sample in samples]
    accuracy, mean = calibration_curve(right, sure, n_bins=10)
    known = [each for each in found.calibration if each.n]
    assert [each.confidence for each in known] == pytest.approx(list(mean))
    assert [each.right / each.n for each in known] == pytest.approx(list(accuracy))
    weights = [each.n / 300 for each in known]
    assert found.calibration_error == pytest.approx(float(np.dot(weights, np.abs(accuracy - mean))))


def test_a_choice_is_right_if_it_is_one_of_several_targets() -> None:
    found = profile(choice([-1.0, -2.0], [0, 1]), choice([-1.0, -2.0], [1]))
    assert sum(each.right for each in found.calibration) == 1


def test_lengths_are_characters_and_cuts_are_counted() -> None:
    found = profile(*({"output": "ü" * n} for n in range(1, 12)), cut=True)
    assert found.lengths == [2, 3.5, 6, 8.5, 10]
    assert (found.outputs, found.cut) == (11, 11)
    assert found.calibration == []


def test_numbers_and_letters_that_json_has_not_are_read() -> None:
    line = json.dumps(to_json(make_sample(output="\ud800 half", answer=None))).encode()
    odd = json.dumps(to_json(make_sample(**choice([-1.0, -2.0], 0)))).replace("-2.0", "-Infinity").encode()
    profiler = Profiler()
    for each in (line, odd):
        profiler.add(read_parts(each), False)
    found = profiler.profile()
    assert (found.outputs, found.calibration) == (1, [])
