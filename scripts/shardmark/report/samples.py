"""Scored samples prepared for their pages."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any, NamedTuple

from shardmark.records.sample import Sample
from shardmark.records.score import Scores
from shardmark.scoring.statistics import estimate_mean

from .formats import number
from .text import Folded, Piece, anchors, fold, pretty_json, whitespace_pieces

PAGE_SIZE = 100


class Choice(NamedTuple):
    """A choice: its summed log-likelihood (natural log) and its softmax share among the choices."""

    text: str
    chosen: bool
    gold: bool
    logprob: float | None
    tokens: int | None
    share: float | None

    @property
    def per_token(self) -> float | None:
        """The mean log-likelihood of a token of the choice."""
        return self.logprob / self.tokens if self.logprob is not None and self.tokens else None


class Answered(NamedTuple):
    """One of several answers to a question: the output, what was found in it, and the verdict on that, or ""."""

    output: list[Piece]
    answer: str | None
    verdict: str
    score: str
    target: str = ""
    "What is right, where that is not the same for all: of a rotation of options."


@dataclass(frozen=True)
class Shown:
    """A sample as a page shows it; verdict is "right", "wrong", "partial" or "unscored"."""

    sample: Sample
    anchor: str
    verdict: str
    score: str
    prompt: Folded
    output: list[Piece]
    answer: str | None
    targets: list[str]
    choices: list[Choice]
    several: list[Answered]
    "All answers, where there are several."
    chosen: bool
    "Whether `answer` is the one that counts, and not the first of several that do."
    row: str


def prepare(samples: Sequence[Sample], scores: Scores) -> list[Shown]:
    """Prepare a pair's samples, in their order, each with an anchor that no other has."""
    names = anchors(sample.sample for sample in samples)
    return [_shown(sample, anchor, scores) for sample, anchor in zip(samples, names, strict=True)]


def _shown(sample: Sample, anchor: str, scores: Scores) -> Shown:
    value = sample.scores.get(scores.primary)
    return Shown(
        sample=sample,
        anchor=anchor,
        verdict=verdict(value, scores.main.percent),
        score=number(value, scores.main.percent),
        prompt=fold(sample.prompt),
        output=whitespace_pieces("" if sample.output is None else as_text(sample.output)),
        answer=None if sample.answer is None else as_text(sample.answer),
        targets=[as_text(target) for target in _as_list(sample.target)],
        choices=list(_choices(sample)),
        several=list(_several(sample, scores)),
        chosen=not sample.answer_scores,
        row=pretty_json(sample.row) if sample.row else "",
    )


def _several(sample: Sample, scores: Scores) -> Iterator[Answered]:
    """Each output with what the first chain of filters found in it, and its score by the first metric that has one.

    Of a circular data set, each rotation of the options.
    """
    turns = sample.rotations
    outputs = [turn.output for turn in turns] if turns else sample.outputs or []
    found = [turn.answer for turn in turns] if turns else next(iter((sample.answers or {}).values()), [])
    each = sample.answer_scores.get(scores.primary) or next(iter(sample.answer_scores.values()), [])
    answers, marks = _padded(found if len(found) == len(outputs) else [], len(outputs)), _padded(each, len(outputs))
    targets = [" or ".join(map(as_text, _as_list(turn.target))) for turn in turns] or [""] * len(outputs)
    for output, answer, mark, target in zip(outputs, answers, marks, targets, strict=True):
        told, percent = None if answer is None else as_text(answer), scores.main.percent
        own = "" if mark is None else verdict(mark, percent)
        yield Answered(whitespace_pieces(as_text(output)), told, own, number(mark, percent), target)


def verdict(value: float | None, percent: bool) -> str:
    """Judge a sample by its primary score; only a fraction can be wholly right (1) or wrong (0)."""
    if value is None:
        return "unscored"
    return {1.0: "right", 0.0: "wrong"}.get(value, "partial") if percent else "partial"


def as_text(value: object) -> str:
    """A text as it is and any other JSON value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _as_list(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _choices(sample: Sample) -> Iterator[Choice]:
    choices = [as_text(choice) for choice in sample.choices or []]
    logprobs, tokens = _padded(sample.logprobs, len(choices)), _padded(sample.tokens, len(choices))
    picked = sample.answer if isinstance(sample.answer, int) else sample.output
    chosen, gold = _positions(choices, [picked]), _positions(choices, _as_list(sample.target))
    shares = _softmax(logprobs)
    for index, text in enumerate(choices):
        yield Choice(text, index in chosen, index in gold, logprobs[index], tokens[index], shares[index])


def _padded(values: Sequence[Any] | None, length: int) -> list[Any]:
    return [*(values or []), *[None] * length][:length]


def _positions(choices: list[str], values: list[Any]) -> set[int]:
    """Find values among the choices: a whole number is an index, from 0; a text is that of a choice."""
    texts = {choices.index(value) for value in values if value in choices}
    return texts | {value for value in values if isinstance(value, int)}


def _softmax(logprobs: Sequence[float | None]) -> list[float | None]:
    known = [value for value in logprobs if value is not None]
    if not known:
        return [None] * len(logprobs)
    peak = max(known)
    total = sum(exp(value - peak) for value in known)
    return [None if value is None else exp(value - peak) / total for value in logprobs]


class Group(NamedTuple):
    """The samples of one group: how many, their mean primary score, and its 95 % interval."""

    name: str
    n: int
    mean: float | None
    ci95: tuple[float, float] | None


def by_group(samples: Sequence[Sample], primary: str) -> list[Group]:
    """The mean primary score of each group, by name; empty if no sample has a group."""
    groups: dict[str, list[float | None]] = defaultdict(list)
    for sample in samples:
        if sample.group is not None:
            groups[sample.group].append(sample.scores.get(primary))
    return [_group(name, groups[name]) for name in sorted(groups)]


def _group(name: str, scores: list[float | None]) -> Group:
    known = [score for score in scores if score is not None]
    if not known:
        return Group(name, len(scores), None, None)
    estimate = estimate_mean(known)
    return Group(name, len(scores), estimate.value, estimate.ci95)
