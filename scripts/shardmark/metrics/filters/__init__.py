"""From a model's raw output to its answer. A filter that finds nothing gives None, and the sample has no answer.

A filter takes a text, and is applied to each of the answers to a request; those of LISTS take all answers at once.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from shardmark.tasks.limits import BoundError, bounded
from shardmark.tasks.templates import RenderError, Template

NUMBER = re.compile(r"(?:(?<!\w)-)?(?:\$?\d[\d,]*(?:\.\d+)?|\.\d+)")
"A minus does not follow a letter or digit: 5-7 is a range."


def first_option(text: str, options: str) -> str | None:
    """The first of the option letters that stands for itself: `A`, `(B)`, `C)`, `**D**`, `the answer is A`.

    A letter inside a word is none, nor are the words in "A dog" and "I think": a lone A or I counts if no word follows
    on its line, or one that makes it the subject, as in "A is right". A letter after "answer" (is, :) is taken before
    any other.
    """
    stated = re.search(rf"(?i:\banswer\b(?:\s+is)?\s*:?)\s*(?:(?i:option)\s+)?[(\[*]*([{options}])(?!\w)", text)
    word = r"(?<=[AIai])[^\S\n]+(?!(?:is|because|since|as)\b)[a-z]"
    alone = re.search(rf"(?<![\w'’])([{options}])(?![\w'’])(?!{word})", text)
    match = stated or alone
    return match.group(1) if match else None


def opencompass_first_option(text: str, options: str) -> str | None:
    """What first_option_postprocess (cushion=False) of OpenCompass 0.5.4 finds by its English rules, in its order.

    A letter after a space, colon or comma at the end; a stated answer; a letter that begins the text, if more follows;
    any letter after "1.". It misses an answer that is only a letter, or one in brackets, as in `A`, `B)` and `(C)`.
    Where it gives an empty string, this gives None.
    """
    letter = f"([{options}])"
    rules = (
        rf"[\s:,]{letter}[,.]?$",
        rf"(?i)answer\s*:\s*{letter}",
        rf"[Tt]he answer is:?\s+\(?{letter}",
        rf"[Tt]he answer is:?\s+\(?\*?\*?{letter}",
        rf"[Tt]he answer is option:?\s+\(?{letter}",
        rf"[Tt]he correct answer is:?\s+\(?{letter}",
        rf"[Tt]he correct answer is option:?\s+\(?{letter}",
        rf"[Tt]he correct answer is:?.*?boxed{{{letter}}}",
        rf"[Tt]he correct option is:?.*?boxed{{{letter}}}",
        rf"[Tt]he correct answer option is:?.*?boxed{{{letter}}}",
        rf"[Tt]he answer to the question is:?\s+\(?{letter}",
        rf"^{letter}[\s,:.$]",
        r"1.\s?(.*?)$",
    )
    for rule in rules:
        match = re.search(rule, text.strip(), re.DOTALL)
        found = [option for option in options if match and option in (match.group(1) or match.group(0))]
        if found:
            return found[0]
    return None


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


def first_line(text: str) -> str:
    """Up to the first newline, without leading newlines."""
    return text.lstrip("\n").partition("\n")[0]


def lowercase(text: str) -> str:
    """In small letters."""
    return text.lower()


def uppercase(text: str) -> str:
    """In capital letters."""
    return text.upper()


def first_number(text: str) -> str | None:
    """The first number in the text, without thousands separators and currency."""
    match = NUMBER.search(text)
    return _bare(match.group()) if match else None


def last_number(text: str) -> str | None:
    """The last number in the text, without thousands separators and currency."""
    numbers = NUMBER.findall(text)
    return _bare(numbers[-1]) if numbers else None


def _bare(number: str) -> str:
    return number.replace(",", "").replace("$", "")


def first_capital(text: str) -> str | None:
    """The first capital letter."""
    return next(filter(str.isupper, text), None)


def last_capital(text: str) -> str | None:
    """The last capital letter."""
    return next(filter(str.isupper, reversed(text)), None)


def multiple_select(text: str) -> str | None:
    """All capital letters, each once, in order: `B and A, so AB` is `AB`."""
    return "".join(sorted(set(filter(str.isupper, text)))) or None


def fenced_code(text: str) -> str:
    """The first block between lines of three backticks, or after the only one; the whole text if there is none."""
    match = re.search(r"```[^\n`]*\n(.*?)(?:\n[ \t]*```|```|\Z)", text, re.DOTALL)
    return match.group(1) if match else text


def strip_thinking(text: str, tag: str = "think") -> str | None:
    """What follows the thoughts; None if they never end."""
    before, opened, thoughts = text.partition(f"<{tag}>")
    _, closed, after = (thoughts if opened else text).rpartition(f"</{tag}>")
    if closed:
        return (before + after if opened else after).strip()
    return None if opened else text


def xml_tag(text: str, tag: str) -> str | None:
    """What stands inside the last <tag>...</tag>, without white space at the ends."""
    found = re.findall(rf"<{re.escape(tag)}>(.*?)</{re.escape(tag)}>", text, re.DOTALL)
    return found[-1].strip() if found else None


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


def majority_vote(answers: list[str | None]) -> list[str | None]:
    """The most frequent answer, the first of those if there are several; answers that were not found have no vote."""
    votes = Counter(answer for answer in answers if answer is not None)
    return [votes.most_common(1)[0][0] if votes else None]


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
        strip_thinking,
        xml_tag,
        template,
    )
} | {"map": mapped}
LISTS: dict[str, Callable[..., list[str | None]]] = {f.__name__: f for f in (take_first, majority_vote)}


def apply_filters(
    texts: list[str], filters: list[dict[str, Any]], row: dict[str, Any], key: str = "filters"
) -> list[str | None]:
    """The answers to a request after all filters in order; None from where one finds nothing in it.

    `key` is where the filters stand in the data set's file. Raises BoundError for one that takes too long.
    """
    answers: list[str | None] = list(texts)
    for number, settings in enumerate(filters):
        name, options = settings["name"], {key: value for key, value in settings.items() if key != "name"}
        if name in LISTS:
            answers = LISTS[name](answers, **options)
            continue
        if name == "template":
            options["row"] = row
        with bounded(_key(f"{key}.{number}", name)):
            answers = [None if answer is None else TEXTS[name](answer, **options) for answer in answers]
    return answers


def _key(place: str, name: str) -> str:
    """The setting that decides how long a filter takes, as far as one does."""
    return place + {"regex": ".pattern", "template": ".template"}.get(name, "")
