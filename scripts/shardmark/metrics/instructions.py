"""The 25 instructions of IFEval, and checks whether a response follows them.

Zhou et al. 2023, "Instruction-following evaluation for large language models" (arXiv 2311.07911); details, such as what
counts as a word or a paragraph, are those of its published checker, and so of lm-evaluation-harness.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "change_case:capital_word_frequency": ("capital_frequency",),
    "change_case:english_capital": (),
    "change_case:english_lowercase": (),
    "combination:repeat_prompt": (),
    "combination:two_responses": (),
    "detectable_content:number_placeholders": ("num_placeholders",),
    "detectable_content:postscript": ("postscript_marker",),
    "detectable_format:constrained_response": (),
    "detectable_format:json_format": (),
    "detectable_format:multiple_sections": ("section_spliter", "num_sections"),
    "detectable_format:number_bullet_lists": ("num_bullets",),
    "detectable_format:number_highlighted_sections": ("num_highlights",),
    "detectable_format:title": (),
    "keywords:existence": ("keywords",),
    "keywords:forbidden_words": ("forbidden_words",),
    "keywords:frequency": ("keyword", "frequency"),
    "keywords:letter_frequency": ("letter", "let_frequency"),
    "language:response_language": ("language",),
    "length_constraints:nth_paragraph_first_word": ("num_paragraphs", "nth_paragraph", "first_word"),
    "length_constraints:number_paragraphs": ("num_paragraphs",),
    "length_constraints:number_sentences": ("num_sentences",),
    "length_constraints:number_words": ("num_words",),
    "punctuation:no_comma": (),
    "startend:end_checker": ("end_phrase",),
    "startend:quotation": (),
}
"The ids of all instructions, with the arguments that each needs."


class Arguments(NamedTuple):
    """The arguments of an instruction, by their published names, and its prompt; the others have their defaults."""

    prompt: str
    capital_frequency: int = 0
    capital_relation: str = ""
    end_phrase: str = ""
    first_word: str = ""
    forbidden_words: Sequence[str] = ()
    frequency: int = 0
    keyword: str = ""
    keywords: Sequence[str] = ()
    language: str = ""
    let_frequency: int = 0
    let_relation: str = ""
    letter: str = ""
    nth_paragraph: int = 0
    num_bullets: int = 0
    num_highlights: int = 0
    num_paragraphs: int = 0
    num_placeholders: int = 0
    num_sections: int = 0
    num_sentences: int = 0
    num_words: int = 0
    postscript_marker: str = ""
    prompt_to_repeat: str = ""
    relation: str = ""
    section_spliter: str = ""


YES_NO_MAYBE = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
FIRST_WORD_ENDS = re.compile(r"""[.,?!'"]""")
CODE_FENCES = ("```json", "```Json", "```JSON", "```")


def _arguments(instruction: str, given: Mapping[str, Any], prompt: str) -> Arguments:
    """The arguments of an instruction. Raises KeyError if it is unknown, or lacks an argument that it needs."""
    for name in INSTRUCTIONS[instruction]:
        if not given.get(name):
            raise KeyError(name)
    known = {name: value for name, value in given.items() if value and name in Arguments._fields}
    return Arguments(**(known | {"prompt": prompt}))


def follows(instruction: str, arguments: Mapping[str, Any], prompt: str, response: str) -> bool:
    """Whether a response follows an instruction, by its id such as `length_constraints:number_words`.

    An empty response follows none. Raises KeyError for an unknown instruction.
    """
    return bool(response.strip()) and CHECKS[instruction](response, _arguments(instruction, arguments, prompt))


def variants(response: str) -> list[str]:
    """The response as is, and without its first line, its last line, both, or asterisks."""
    lines = response.split("\n")
    parts = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*parts, *(part.replace("*", "") for part in parts)]


def _compares(count: int, bound: int, relation: str) -> bool:
    """Compare a count with a bound: less than, or (the default) at least."""
    return count < int(bound) if relation == "less than" else count >= int(bound)


def _matches(pattern: str, text: str) -> int:
    return len(re.findall(pattern, text, re.IGNORECASE))


def _word(word: str) -> str:
    """The pattern of a word: words are patterns, as in the original; an invalid one, such as `:-)`, is escaped."""
    try:
        re.compile(word)
    except re.error:
        return re.escape(word)
    return word


def _language(text: str, language: str) -> bool:
    """Whether a text is in a language; one without a recognisable language counts as any."""
    import langdetect

    langdetect.DetectorFactory.seed = 0
    try:
        return bool(langdetect.detect(text) == language)
    except langdetect.LangDetectException:
        return True


@cache
def splitter() -> Callable[[str], list[str]]:
    """NLTK's model of English sentences, from a package: NLTK itself would download it."""
    import punkt

    return lambda text: list(punkt.sent_tokenize(text, "english"))


def words(text: str) -> list[str]:
    """NLTK's words of an English text; marks are words, too."""
    from nltk.tokenize import NLTKWordTokenizer

    return [word for sentence in splitter()(text) for word in NLTKWordTokenizer().tokenize(sentence)]


def _bullets(text: str) -> int:
    return sum(len(re.findall(pattern, text, re.MULTILINE)) for pattern in (r"^\s*\*[^*].*$", r"^\s*-.*$"))


def _highlights(text: str) -> int:
    """The number of highlights: *these* count once, and **these** once more."""
    single = (part.strip("*") for part in re.findall(r"\*[^\n*]*\*", text))
    double = (part.removeprefix("**").removesuffix("**") for part in re.findall(r"\*\*[^\n*]*\*\*", text))
    return sum(bool(part.strip()) for part in (*single, *double))


def _filled(parts: list[str]) -> list[str] | None:
    """The parts that are not blank; None if one in the middle is."""
    if any(not part.strip() for part in parts[1:-1]):
        return None
    return [part for part in parts if part.strip()]


def _paragraphs(text: str, wanted: int) -> bool:
    filled = _filled(re.split(r"\s?\*\*\*\s?", text))
    return filled is not None and len(filled) == wanted


def _two_responses(text: str) -> bool:
    filled = _filled(text.split("******"))
    return filled is not None and len(filled) == 2 and filled[0].strip() != filled[1].strip()


def _first_word(text: str, arguments: Arguments) -> bool:
    """Whether there are as many paragraphs as asked for, and the n-th begins with a given word."""
    paragraphs = text.split("\n\n")
    count, n = sum(bool(part.strip()) for part in paragraphs), int(arguments.nth_paragraph)
    if n > count or not paragraphs[n - 1].strip():
        return False
    word = paragraphs[n - 1].split()[0].lstrip("'").lstrip('"').lower()
    first = FIRST_WORD_ENDS.split(word)[0]
    return count == int(arguments.num_paragraphs) and first == arguments.first_word.lower()


def _postscript(text: str, marker: str) -> bool:
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(patterns.get(marker, marker.lower()), text.lower()) is not None


def _json(text: str) -> bool:
    text = text.strip()
    for fence in CODE_FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str) -> bool:
    return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text))


CHECKS: dict[str, Callable[[str, Arguments], bool]] = {
    "keywords:existence": lambda text, a: all(_matches(_word(word), text) for word in a.keywords),
    "keywords:frequency": lambda text, a: _compares(_matches(_word(a.keyword.strip()), text), a.frequency, a.relation),
    "keywords:forbidden_words": lambda text, a: not any(_matches(rf"\b{_word(w)}\b", text) for w in a.forbidden_words),
    "keywords:letter_frequency": lambda text, a: _compares(
        Counter(text.lower())[a.letter.strip().lower()], a.let_frequency, a.let_relation
    ),
    "language:response_language": lambda text, a: _language(text, a.language),
    "length_constraints:number_sentences": lambda text, a: _compares(
        len(splitter()(text)), a.num_sentences, a.relation
    ),
    "length_constraints:number_paragraphs": lambda text, a: _paragraphs(text, int(a.num_paragraphs)),
    "length_constraints:number_words": lambda text, a: _compares(
        len(re.findall(r"\w+", text)), a.num_words, a.relation
    ),
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": lambda text, a: _compares(
        len(re.findall(r"\[.*?\]", text)), a.num_placeholders, a.relation
    ),
    "detectable_content:postscript": lambda text, a: _postscript(text, a.postscript_marker.strip()),
    "detectable_format:number_bullet_lists": lambda text, a: _bullets(text) == int(a.num_bullets),
    "detectable_format:constrained_response": lambda text, a: any(answer in text for answer in YES_NO_MAYBE),
    "detectable_format:number_highlighted_sections": lambda text, a: _compares(
        _highlights(text), a.num_highlights, a.relation
    ),
    "detectable_format:multiple_sections": lambda text, a: _compares(
        len(re.split(rf"\s?{_word(a.section_spliter.strip())}\s?\d+\s?", text)) - 1, a.num_sections, a.relation
    ),
    "detectable_format:json_format": lambda text, a: _json(text),
    "detectable_format:title": lambda text, a: _title(text),
    "combination:two_responses": lambda text, a: _two_responses(text),
    "combination:repeat_prompt": lambda text, a: (
        text.strip().lower().startswith(str(a.prompt_to_repeat or a.prompt).strip().lower())
    ),
    "startend:end_checker": lambda text, a: text.strip().strip('"').lower().endswith(a.end_phrase.strip().lower()),
    "startend:quotation": lambda text, a: re.fullmatch(r'\s*".*"\s*', text, re.DOTALL) is not None,
    "change_case:capital_word_frequency": lambda text, a: _compares(
        sum(map(str.isupper, words(text))), a.capital_frequency, a.capital_relation
    ),
    "change_case:english_capital": lambda text, a: text.isupper() and _language(text, "en"),
    "change_case:english_lowercase": lambda text, a: text.islower() and _language(text, "en"),
    "punctuation:no_comma": lambda text, a: "," not in text,
}
