"""Inputs of metrics: a prediction and a reference as plain values, by the name in `Metric.reads`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shardmark.engine.tokens import well_formed
from shardmark.records.sample import Sample
from shardmark.scoring.choice import preferred


@dataclass(frozen=True)
class Judged:
    """A sample with the model's answers."""

    sample: Sample
    "As in the samples file."
    answers: dict[str, list[Any]]
    "The answers by chain of filters: texts, or for kind choice the index of the preferred choice."
    right: list[Any]
    "The right answers: texts, or indices of choices."
    asked: list[str]
    "For kind choice: for each choice, the text whose log-likelihood was taken."
    logprobs: Sequence[float] = ()
    "For kind choice: the log-likelihood of each choice."
    rotations: Sequence["Judged"] = ()
    "For a circular data set, the same for each rotation of the options; the first is the row as it stands."


def text(judged: Judged, answer: Any, scoring: str | None) -> tuple[Any, Any]:
    """The answer, and all right ones."""
    return None if answer is None else well_formed(str(answer)), [well_formed(str(right)) for right in judged.right]


def with_row(judged: Judged, answer: Any, scoring: str | None) -> tuple[Any, Any]:
    """The answer and, as JSON, all right ones, the row and the sample's name."""
    answer, right = text(judged, answer, scoring)
    return answer, json.dumps({"right": right, "row": judged.sample.row, "sample": judged.sample.sample})


def label(judged: Judged, answer: Any, scoring: str | None) -> tuple[Any, Any]:
    """The answer, and the first right one, as texts."""
    answer, right = text(judged, answer, scoring)
    return answer, right[0]


def program(judged: Judged, answer: Any, scoring: str | None) -> tuple[Any, Any]:
    """The answer, and the tests that it should pass."""
    return None if answer is None else well_formed(answer), "\n".join(map(str, judged.right))


def choice(judged: Judged, answer: Any, scoring: str | None) -> tuple[Any, Any]:
    """The index of the preferred choice, and those of the right ones."""
    if scoring is None:
        return answer, judged.right
    sample = judged.sample
    return preferred(scoring, judged.logprobs, sample.tokens or [], sample.choices or []), judged.right


def logprobs(judged: Judged, answer: Any, scoring: str | None) -> tuple[Any, Any]:
    """The log-likelihood of each choice, and the indices of the right ones."""
    return list(judged.logprobs), judged.right


def likelihood(judged: Judged, answer: Any, scoring: str | None) -> tuple[Any, Any]:
    """The log-likelihood of the right choice, and its text."""
    right = judged.right[0]
    return judged.logprobs[right], well_formed(judged.asked[right])


View = Callable[[Judged, Any, str | None], tuple[Any, Any]]
VIEWS: dict[str, View] = {f.__name__: f for f in (text, with_row, label, program, choice, logprobs, likelihood)}
