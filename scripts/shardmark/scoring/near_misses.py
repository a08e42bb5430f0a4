"""Answers that are a target but for white space and case: a missing filter, more often than a model that is wrong."""

from collections.abc import Iterable

from shardmark.records.sample import Sample


def near_misses(samples: Iterable[Sample]) -> int:
    """How many scored samples have a score of 0 and an answer that is a target but for white space and case."""
    return sum(0 in sample.scores.values() and _is_near(sample.answer, sample.target) for sample in samples)


def _is_near(answer: object, target: object) -> bool:
    targets = [one for one in (target if isinstance(target, list) else [target]) if isinstance(one, str)]
    if not isinstance(answer, str) or answer in targets:
        return False
    return bool(_bare(answer)) and _bare(answer) in map(_bare, targets)


def _bare(text: str) -> str:
    return "".join(text.split()).casefold()
