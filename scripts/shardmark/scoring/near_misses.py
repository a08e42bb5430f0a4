"""Answers that differ from a target only by white space and case: more often a missing filter than a wrong model."""

from collections.abc import Iterable

from shardmark.records.sample import Sample


def near_misses(samples: Iterable[Sample]) -> int:
    """How many samples have a score of 0 and an answer that differs from a target only by white space and case."""
    return sum(0 in sample.scores.values() and _is_near(sample.answer, sample.target) for sample in samples)


def _is_near(answer: object, target: object) -> bool:
    targets = [one for one in (target if isinstance(target, list) else [target]) if isinstance(one, str)]
    if not isinstance(answer, str) or answer in targets:
        return False
    return bool(_bare(answer)) and _bare(answer) in map(_bare, targets)


def _bare(text: str) -> str:
    return "".join(text.split()).casefold()
