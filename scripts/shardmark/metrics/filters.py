"""From a model's raw output to its answer. A filter that finds nothing gives None, and the sample has no answer."""

import re
from collections.abc import Callable
from typing import Any

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


def regex(text: str, pattern: str) -> str | None:
    """The first match's first group, or all of it if the pattern has none."""
    match = re.search(pattern, text)
    return (match.group(1) if match.re.groups else match.group(0)) if match else None


def cut(text: str, marker: str) -> str:
    """What stands before the marker; everything if it is not there."""
    return text.partition(marker)[0]


def strip(text: str) -> str:
    """Without white space at both ends."""
    return text.strip()


def first_line(text: str) -> str:
    """Up to the first newline, without leading newlines."""
    return text.lstrip("\n").partition("\n")[0]


def last_number(text: str) -> str | None:
    """The last number in the text, without thousands separators and currency."""
    numbers = NUMBER.findall(text)
    return numbers[-1].replace(",", "").replace("$", "") if numbers else None


FILTERS: dict[str, Callable[..., str | None]] = {
    f.__name__: f for f in (first_option, opencompass_first_option, regex, cut, strip, first_line, last_number)
}


def apply_filters(text: str, filters: list[dict[str, Any]]) -> str | None:
    """The answer after all filters in order; None as soon as one finds nothing."""
    answer: str | None = text
    for settings in filters:
        if answer is None:
            return None
        options = {key: value for key, value in settings.items() if key != "name"}
        answer = FILTERS[settings["name"]](answer, **options)
    return answer
