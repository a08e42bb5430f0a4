"""From a model's raw output to its answer. A filter that finds nothing gives None, and the sample has no answer.

A filter takes a text, and is applied to each of the answers to a request; those of LISTS take all answers at once.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from shardmark.filters.code import fenced_code, unquote
from shardmark.filters.opencompass import opencompass_first_option
from shardmark.filters.options import first_option
from shardmark.texts.numbers import Thousands, amount, numbers
from shardmark.texts.thoughts import without_thoughts
from shardmark.untrusted.limits import BoundError, bounded
from shardmark.untrusted.templates import RenderError, Template


def regex(text: str, pattern: str, select: int = 0, fallback: str | None = None) -> str | None:
    """A match's first group that took part, or all of it if the pattern has none; `select` -1 is the last match."""
    matches = list(re.finditer(pattern, text))
    if not -len(matches) <= select < len(matches):
        return fallback
    match = matches[select]
    found = next((group for group in match.groups() if group is not None), None) if match.re.groups else match.group()
    return fallback if found is None else found


def cut(text: str, marker: str) -> str:
    """What stands before the marker; everything if it is not there."""
    return text.partition(marker)[0]


def strip(text: str) -> str:
    """Without white space at both ends."""
    return text.strip()


def first_line(text: str) -> str | None:
    """The first line that is not blank, without what ends it."""
    return next(filter(str.strip, text.splitlines()), None)


def lowercase(text: str) -> str:
    """In small letters."""
    return text.lower()


def uppercase(text: str) -> str:
    """In capital letters."""
    return text.upper()


def first_number(text: str, thousands: Thousands = ",") -> str | None:
    """The first number in the text, in its plain spelling (see `numbers`)."""
    return next(numbers(text, thousands), None)


def last_number(text: str, thousands: Thousands = ",") -> str | None:
    """The last number in the text, in its plain spelling (see `numbers`)."""
    return next(iter([*numbers(text, thousands)][-1:]), None)


def first_capital(text: str) -> str | None:
    """The first capital letter."""
    return next(filter(str.isupper, text), None)


def last_capital(text: str) -> str | None:
    """The last capital letter."""
    return next(filter(str.isupper, reversed(text)), None)


def multiple_select(text: str) -> str | None:
    """All capital letters, each once, in order: `B and A, so AB` is `AB`."""
    return "".join(sorted(set(filter(str.isupper, text)))) or None


def strip_thinking(text: str, tag: str | None = None) -> str | None:
    """What follows the thoughts; None if they do not end."""
    return without_thoughts(text, tag)


def xml_tag(text: str, tag: str) -> str | None:
    """What stands inside the last <tag>...</tag> that is not empty, without white space at the ends."""
    found, begun = None, None
    for mark in re.finditer(rf"<(/?){re.escape(tag)}(?:\s[^<>]{{0,200}})?>", text, re.IGNORECASE):
        if not mark.group(1):
            begun = mark.end()
        elif begun is not None:
            found, begun = text[begun : mark.start()].strip() or found, None
    return found


def mapped(text: str, values: dict[str, str], default: str | None = None) -> str | None:
    """What the answer stands for."""
    return values.get(text, default)


def template(text: str, row: dict[str, Any], template: str) -> str:
    """The template's text for a row and an answer."""
    try:
        return str(_compiled(template)(row | {"answer": text}))
    except RenderError as error:
        if error.endless:
            raise BoundError(str(error)) from error
        raise


@lru_cache
def _compiled(source: str) -> Template:
    return Template(source)


def take_first(answers: list[str | None], k: int = 1) -> list[str | None]:
    """The first k answers."""
    return answers[:k]


def majority_vote(answers: list[str | None], tolerance: float | None = None) -> list[str | None]:
    """The most frequent answer, the first of those if there are several; answers that were not found have no vote.

    With `tolerance`, numbers that differ by no more are one answer, which is written as it first was.
    """
    votes = Counter(_alike([answer for answer in answers if answer is not None], tolerance))
    return [votes.most_common(1)[0][0] if votes else None]


def _alike(answers: list[str], tolerance: float | None) -> list[str]:
    """The answers, each as the first that equals it."""
    if tolerance is None:
        return answers
    firsts: dict[str, Fraction] = {}
    same: list[str] = []
    for answer in answers:
        value = found.value if (found := amount(answer)) else None
        near = (first for first, other in firsts.items() if value is not None and abs(value - other) <= tolerance)
        first = next(near, answer)
        if first == answer and value is not None:
            firsts.setdefault(answer, value)
        same.append(first)
    return same


TEXTS: dict[str, Callable[..., str | None]] = {
    f.__name__: f
    for f in (
        first_option,
        opencompass_first_option,
        regex,
        cut,
        strip,
        lowercase,
        uppercase,
        first_line,
        first_number,
        last_number,
        first_capital,
        last_capital,
        multiple_select,
        fenced_code,
        unquote,
        strip_thinking,
        xml_tag,
        template,
    )
} | {"map": mapped}
LISTS: dict[str, Callable[..., list[str | None]]] = {f.__name__: f for f in (take_first, majority_vote)}


def apply_filters(
    texts: list[str],
    filters: list[dict[str, Any]],
    row: dict[str, Any],
    key: str = "filters",
    *,
    opened: Sequence[str] = (),
) -> list[str | None]:
    """The answers to a request after all filters in order; None from where one finds nothing in it.

    `key` is where the filters stand in the data set's file. `opened` has for each text the mark of the thought that its
    prompt has opened, which `strip_thinking` takes into account; an empty one if there is none. Raises BoundError for
    a filter that takes too long.
    """
    answers: list[str | None] = list(texts)
    for number, settings in enumerate(filters):
        name, options = settings["name"], {key: value for key, value in settings.items() if key != "name"}
        if name in LISTS:
            answers = LISTS[name](answers, **options)
            opened = opened[: len(answers)]  # those of a request are alike
            continue
        if name == "template":
            options["row"] = row
        if name == "strip_thinking" and opened:
            answers = [None if answer is None else mark + answer for answer, mark in zip(answers, opened, strict=True)]
        with bounded(_key(f"{key}.{number}", name)):
            answers = [None if answer is None else TEXTS[name](answer, **options) for answer in answers]
    return answers


def _key(place: str, name: str) -> str:
    """The setting that decides how long a filter takes, as far as one does."""
    return place + {"regex": ".pattern", "template": ".template"}.get(name, "")
