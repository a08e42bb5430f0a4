"""lm-evaluation-harness's filters: from a task's responses, a list for each document, to the input of its metrics."""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from shardmark.tasks.lm_eval.fewshot import Doc
from shardmark.untrusted.limits import bounded, note_key

Responses = Iterable[Sequence[Any]]
"Each document's responses, or the result of an earlier filter."

Docs = Sequence[Doc]
"The documents themselves."

Rule = tuple[re.Pattern[str], Callable[[str], str], dict[str, str]]
"A pattern, the preparation of a text, and what each match means."

NOTHING = "[invalid]"
PAIR = re.compile(r"\('([^']*)', '([^']*)'\)")
SPAN = re.compile(r"\b(PER|LOC|ORG|DATE):\s*([^$]+)")
KINDS_OF_SPANS = {
    "person": "PER",
    "location": "LOC",
    "organization": "ORG",
    "counties": "LOC",
    "places": "LOC",
    "people": "PER",
    "persons": "PER",
    "company": "ORG",
    "country": "LOC",
    "continent": "LOC",
    "time": "DATE",
    "date": "DATE",
    "per": "PER",
    "loc": "LOC",
    "org": "ORG",
}
NUMBER = r"#### (\-?[0-9\.\,]+)"


def regex(
    responses: Responses, docs: Docs, regex_pattern: str = NUMBER, group_select: int = 0, fallback: str = NOTHING
) -> list[Any]:
    """The match with this number, counted from 0 (or from the end), in each response."""
    pattern = re.compile(regex_pattern)

    def found(text: object) -> str:
        matches = pattern.findall(text if isinstance(text, str) else "")
        if not matches:
            return fallback
        match = matches[group_select]
        if isinstance(match, tuple):
            match = next((part for part in match if part), fallback)
        return str(match).strip()

    filtered = []
    for number, texts in enumerate(responses):
        with bounded("regex_pattern", number):
            filtered.append([found(text) for text in texts])
    return filtered


def multi_choice_regex(
    responses: Responses,
    docs: Docs,
    regex_pattern: str = NUMBER,
    group_select: int = 0,
    fallback: str = NOTHING,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    regexes_to_ignore: list[str] | None = None,
) -> list[Any]:
    """The match of a pattern; else the first choice that the response spells out; else a letter after a colon."""
    pattern = re.compile(regex_pattern)

    def plain(text: str) -> str:
        if regexes_to_ignore:
            note_key("regexes_to_ignore")
        for ignored in regexes_to_ignore or ():
            text = re.sub(ignored, "", text)
        text = text.lower() if ignore_case else text
        return text.translate(_punctuation()) if ignore_punctuation else text

    def match(rule: re.Pattern[str], text: object, meanings: dict[str, str]) -> str:
        matches = rule.findall(text if isinstance(text, str) else "")
        if not matches:
            return ""
        found = matches[group_select]
        if isinstance(found, tuple):
            found = next((part for part in found if part), "")
        found = found.strip()
        return meanings.get(found, found) if found else ""  # a choice may be empty without what is ignored

    def filtered(texts: Sequence[str], doc: Doc) -> list[str]:
        choices = [plain(choice.strip()) for choice in doc["choices"]]
        letters = [chr(ord("A") + number) for number in range(len(choices))]
        by_choice = {choice: f"({letter})" for choice, letter in zip(choices, letters, strict=True)}
        spelt = re.compile("|".join(sorted(map(re.escape, choices), key=len, reverse=True)))
        lettered = re.compile(rf":[\s]*({'|'.join(letters)})")
        by_letter = {letter: f"({letter})" for letter in letters}
        rules: tuple[Rule, ...] = (
            (pattern, str, {}),
            (spelt, plain, by_choice),
            (lettered, str, by_letter),
        )
        return [
            next((hit for rule, read, meanings in rules if (hit := match(rule, read(text), meanings))), fallback)
            for text in texts
        ]

    found = []
    for number, (texts, doc) in enumerate(zip(responses, docs, strict=True)):
        with bounded("regex_pattern", number):
            found.append(filtered(texts, doc))
    return found


@cache
def _punctuation() -> dict[int, None]:
    return dict.fromkeys(i for i in range(sys.maxunicode) if unicodedata.category(chr(i)).startswith("P"))


def regex_pos(
    responses: Responses,
    docs: Docs,
    regex_pattern: str = "",
    group_select: int = 0,
    fallback: object = None,
) -> list[Any]:
    """The tags in a list of ('word', 'TAG') in each response; the other options have no effect, as in lm-eval."""

    def tags(found: Any) -> Any:
        pairs = PAIR.findall(found) if isinstance(found, str) else found
        return [tag for _, tag in pairs] or (["invalid"] if fallback is None else fallback)

    return [[tags(text) for text in texts] for texts in responses]


def format_span(responses: Responses, docs: Docs) -> list[Any]:
    """Named entities of each response as `per: name $ loc: place`, whatever their kinds are called."""

    def spans(text: str) -> str:
        text = text.lower()
        for word, kind in KINDS_OF_SPANS.items():
            text = re.sub(rf"\b{word}\s*:", f"{kind}:", text)
        text = text.replace("$$", "$").rstrip("$").replace("\n", "$").strip()
        found = [(kind.lower(), part.strip()) for kind, parts in SPAN.findall(text) for part in parts.split(",")]
        return " $ ".join(f"{kind}: {part}" for kind, part in found if part.lower() != "none")

    return [[spans(text) for text in texts] for texts in responses]


def remove_whitespace(responses: Responses, docs: Docs) -> list[Any]:
    """Responses without white space at both ends."""
    return [[text.strip() for text in texts] for texts in responses]


def lowercase(responses: Responses, docs: Docs) -> list[Any]:
    """Responses in lower case."""
    return [[text.lower() for text in texts] for texts in responses]


def uppercase(responses: Responses, docs: Docs) -> list[Any]:
    """Responses in upper case."""
    return [[text.upper() for text in texts] for texts in responses]


def map_(
    responses: Responses, docs: Docs, mapping_dict: dict[Any, Any] | None = None, default_value: object = None
) -> list[Any]:
    """The value that each response maps to."""
    return [[(mapping_dict or {}).get(text, default_value) for text in texts] for texts in responses]


def take_first(responses: Responses, docs: Docs) -> list[Any]:
    """The first response alone, no longer in a list."""
    return [texts[0] for texts in responses]


def take_first_k(responses: Responses, docs: Docs, k: int) -> list[Any]:
    """The first k responses. Raises ValueError if there are fewer."""
    found = [texts[:k] for texts in responses]
    if any(len(texts) < k for texts in found):
        raise ValueError(f"take_first_k: {k} responses are needed, but there are {min(map(len, found))}")
    return found


def majority_vote(responses: Responses, docs: Docs) -> list[Any]:
    """The most common response; of equally common ones, the first."""
    return [[Counter(texts).most_common(1)[0][0]] for texts in responses]


def custom(responses: Responses, docs: Docs, filter_fn: Callable[[Responses, Docs], Iterable[Any]]) -> list[Any]:
    """The result of a function of the task's own."""
    return list(filter_fn(responses, docs))


FILTERS: dict[str, Callable[..., list[Any]]] = {
    function.__name__.rstrip("_"): function
    for function in (
        regex,
        regex_pos,
        multi_choice_regex,
        remove_whitespace,
        lowercase,
        uppercase,
        map_,
        format_span,
        take_first,
        take_first_k,
        majority_vote,
        custom,
    )
}
