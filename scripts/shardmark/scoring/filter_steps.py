"""What each filter did to a model's output, as samples record it: only what has changed, and pieces by their place."""

import json
from collections.abc import Sequence
from typing import Any

from shardmark.records.sample import Text

SHORT = 24
"Texts of at most this many characters are written out."


def told_steps(outputs: Sequence[Any], steps: Sequence[Sequence[Any]]) -> dict[str, list[Text]]:
    """The steps that differ from the one before, by their number; the outputs are before the first."""
    told, before = {}, [_text(each) for each in outputs]
    for number, step in enumerate(steps):
        texts = [_text(each) for each in step]
        if texts != before:
            told[str(number)] = [_told(text, place, before) for place, text in enumerate(texts)]
        before = texts
    return told


def _told(text: str | None, place: int, before: list[str | None]) -> Text:
    whole = before[min(place, len(before) - 1)] if before else None
    if text is None or whole is None or len(text) <= SHORT:
        return text
    start = whole.find(text)
    return text if start < 0 else (start, start + len(text))


def _text(value: Any) -> str | None:
    """A value as a text; functions of lm-eval's tasks may give any. Others than JSON's are named by their type."""
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=lambda other: type(other).__name__)
    except (TypeError, ValueError, RecursionError):  # keys that JSON lacks, or a value within itself
        return type(value).__name__
