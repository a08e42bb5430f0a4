"""The 58 instructions of IFBench, and checks whether a response follows them.

Pyatkin et al. 2025, "Generalizing verifiable instruction following" (arXiv 2507.02833). Verdicts are those of its
published checker, also where that is odd: a check says so. docs/datasets.md has what was compared.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from shardmark.metrics import ifbench_checks as checks
from shardmark.metrics import instructions

IFBENCH: dict[str, tuple[str, ...]] = {
    "count:conjunctions": ("small_n",),
    "count:keywords_multiple": ("keyword1", "keyword2", "keyword3", "keyword4", "keyword5"),
    "count:numbers": ("N",),
    "count:person_names": ("N",),
    "count:pronouns": ("N",),
    "count:punctuation": (),
    "count:unique_word_count": ("N",),
    "count:word_count_range": ("min_words", "max_words"),
    "count:words_japanese": ("N",),
    "custom:character_reverse": (),
    "custom:csv_city": (),
    "custom:csv_quotes": (),
    "custom:csv_special_character": (),
    "custom:date_format_list": (),
    "custom:european_capitals_sort": (),
    "custom:mcq_count_length": (),
    "custom:multiples": (),
    "custom:reverse_newline": (),
    "custom:sentence_alphabet": (),
    "custom:word_reverse": (),
    "format:emoji": (),
    "format:line_indent": (),
    "format:list": ("sep",),
    "format:newline": (),
    "format:no_bullets_bullets": (),
    "format:no_whitespace": (),
    "format:options": ("options",),
    "format:output_template": (),
    "format:parentheses": (),
    "format:quote_unquote": (),
    "format:quotes": (),
    "format:sub-bullets": (),
    "format:thesis": (),
    "format:title_case": (),
    "ratio:overlap": ("reference_text", "percentage"),
    "ratio:sentence_balance": (),
    "ratio:sentence_type": (),
    "ratio:sentence_words": (),
    "ratio:stop_words": ("percentage",),
    "repeat:repeat_change": ("prompt_to_repeat",),
    "repeat:repeat_simple": (),
    "repeat:repeat_span": ("prompt_to_repeat", "n_start", "n_end"),
    "sentence:alliteration_increment": (),
    "sentence:increment": ("small_n",),
    "sentence:keyword": ("word", "N"),
    "words:alphabet": (),
    "words:consonants": (),
    "words:keywords_specific_position": ("keyword", "n", "m"),
    "words:last_first": (),
    "words:no_consecutive": (),
    "words:odd_even_syllables": (),
    "words:palindrome": (),
    "words:paragraph_last_first": (),
    "words:prime_lengths": (),
    "words:repeats": ("small_n",),
    "words:start_verb": (),
    "words:vowel": (),
    "words:words_position": ("keyword",),
}
"The ids of the instructions, with the arguments that each needs."
MAY_BE_ZERO = ("n_start", "n_end", "percentage")


EXTRAS: dict[str, tuple[Callable[[], object], str, str]] = {
    "ratio:stop_words": (checks.stop_words, "NLTK's list of stop words", "python -m nltk.downloader stopwords"),
    "words:odd_even_syllables": (checks.syllables, "the package syllapy", "pip install syllapy"),
    "words:start_verb": (
        *(checks.tagger, "NLTK's tagger of words"),
        "python -m nltk.downloader averaged_perceptron_tagger_eng",
    ),
}
"What some instructions need besides Shardmark's packages: what loads it, its name, and how to get it."


def lacks(instruction: str) -> tuple[str, str] | None:
    """What an instruction needs and this machine does not have, and how to get it; None if nothing."""
    if instruction not in EXTRAS:
        return None
    load, what, fix = EXTRAS[instruction]
    try:
        load()
    except (ImportError, LookupError):
        return what, fix
    return None


def follows(instruction: str, given: Mapping[str, Any], prompt: str, response: str) -> bool:
    """Whether a response follows an instruction of IFBench or IFEval. An empty response follows none."""
    if instruction not in CHECKS:
        return instructions.follows(instruction, given, prompt, response)
    return bool(response.strip()) and CHECKS[instruction](response, given)


CHECKS: dict[str, Callable[[str, Mapping[str, Any]], bool]] = {
    "count:conjunctions": lambda text, a: (
        len({word for word in text.split() if word.strip(checks.EDGES).lower() in checks.CONJUNCTIONS})
        >= int(a["small_n"])
    ),
    "count:keywords_multiple": checks.keywords_counted,
    "count:numbers": lambda text, a: len(re.findall(r"\d+", checks.bare(text))) == int(a["N"]),
    "count:person_names": lambda text, a: (
        sum(bool(re.search(rf"\b{n}\b", text)) for n in checks.NAMES.split()) >= int(a["N"])
    ),
    "count:pronouns": lambda text, a: (
        sum(f" {word} " in checks.PRONOUNS for word in instructions.words(text.replace("/", " ").lower()))
        >= int(a["N"])
    ),
    "count:punctuation": lambda text, a: checks.punctuation(text),
    "count:unique_word_count": lambda text, a: (
        len({w.strip(checks.EDGES) for w in text.lower().split()}) >= int(a["N"])
    ),
    "count:word_count_range": lambda text, a: (
        int(a["min_words"]) <= len(checks.plain_words(text)) <= int(a["max_words"])
    ),
    "count:words_japanese": lambda text, a: checks.japanese(text, int(a["N"])),
    "custom:character_reverse": lambda text, a: "elgae dlab" in text.lower(),
    "custom:csv_city": lambda text, a: checks.cities(text),
    "custom:csv_quotes": lambda text, a: checks.quoted_fields(text),
    "custom:csv_special_character": lambda text, a: checks.special_character(text),
    "custom:date_format_list": lambda text, a: checks.dates(text),
    "custom:european_capitals_sort": lambda text, a: checks.capitals(text),
    "custom:mcq_count_length": lambda text, a: checks.questions(text),
    "custom:multiples": lambda text, a: re.findall(r"\d+", text) == ["14", "21", "28", "35", "42", "49"],
    "custom:reverse_newline": lambda text, a: checks.countries(text),
    "custom:sentence_alphabet": lambda text, a: checks.letters_in_order(text),
    "custom:word_reverse": lambda text, a: "bald eagle" in " ".join(checks.bare(text.lower()).split()[::-1]),
    "format:emoji": lambda text, a: checks.emojis(text),
    "format:line_indent": lambda text, a: checks.stairs(text),
    "format:list": lambda text, a: text.count(a["sep"]) >= 2,
    "format:newline": lambda text, a: (
        len([line for line in checks.bare(text).strip().split("\n") if line]) == len(checks.bare(text).split())
    ),
    "format:no_bullets_bullets": lambda text, a: checks.sentences_then_bullets(text),
    "format:no_whitespace": lambda text, a: not any(map(str.isspace, text)),
    "format:options": lambda text, a: checks.options(text, a["options"]),
    "format:output_template": lambda text, a: all(
        label in text for label in ("My Answer:", "My Conclusion:", "Future Outlook:")
    ),
    "format:parentheses": lambda text, a: checks.parentheses(text),
    "format:quote_unquote": lambda text, a: checks.quotes_are_explained(text),
    "format:quotes": lambda text, a: checks.quotes(text),
    "format:sub-bullets": lambda text, a: all("-" in bullet for bullet in text.split("*")[1:]),
    "format:thesis": lambda text, a: checks.thesis(text),
    "format:title_case": lambda text, a: checks.title_case(text),
    "ratio:overlap": lambda text, a: (
        a["percentage"] - 2 <= checks.overlap(text, a["reference_text"]) <= a["percentage"] + 2
    ),
    "ratio:sentence_balance": lambda text, a: len(set(checks.endings(text))) == 1,
    "ratio:sentence_type": lambda text, a: checks.sentence_type(text),
    "ratio:sentence_words": lambda text, a: checks.same_lengths(text),
    "ratio:stop_words": lambda text, a: checks.share_of_stop_words(text) <= a["percentage"],
    "repeat:repeat_change": lambda text, a: (
        text != a["prompt_to_repeat"] and text.split()[1:] == a["prompt_to_repeat"].split()[1:]
    ),
    "repeat:repeat_simple": lambda text, a: text.strip().lower() == checks.REPEATED,
    "repeat:repeat_span": lambda text, a: (
        text.strip().lower() == a["prompt_to_repeat"][int(a["n_start"]) : int(a["n_end"]) + 1].strip().lower()
    ),
    "sentence:alliteration_increment": lambda text, a: all(
        one < two for one, two in pairwise(map(checks.alliteration, checks.sentences_of(text)))
    ),
    "sentence:increment": lambda text, a: checks.increments(text, int(a["small_n"])),
    "sentence:keyword": lambda text, a: checks.keyword_in_sentence(text, a["word"], int(a["N"])),
    "words:alphabet": lambda text, a: checks.alphabet(text),
    "words:consonants": lambda text, a: all(
        re.search("[bcdfghjklmnpqrstvwxyz]{2}", word) for word in text.lower().split()
    ),
    "words:keywords_specific_position": lambda text, a: checks.keyword_at(
        text, a["keyword"].strip(), int(a["n"]), int(a["m"])
    ),
    "words:last_first": lambda text, a: checks.last_first(text),
    "words:no_consecutive": lambda text, a: all(
        one[0] != two[0] for one, two in pairwise(checks.bare(text.lower()).split())
    ),
    "words:odd_even_syllables": lambda text, a: checks.alternates(text),
    "words:palindrome": lambda text, a: (
        sum(len(word) >= 5 and word == word[::-1] for word in checks.bare(text).lower().split()) >= 10
    ),
    "words:paragraph_last_first": lambda text, a: checks.paragraphs_end_as_they_begin(text),
    "words:prime_lengths": lambda text, a: all(len(word) in checks.PRIMES for word in checks.bare(text).split()),
    "words:repeats": lambda text, a: (
        max(Counter(checks.bare(text.lower()).split()).values(), default=0) <= int(a["small_n"])
    ),
    "words:start_verb": lambda text, a: checks.starts_with_verb(text),
    "words:vowel": lambda text, a: "\n" not in text.strip() and len(set(text.lower()) & set("aeiou")) <= 3,
    "words:words_position": lambda text, a: checks.keyword_at_both_ends(text, a["keyword"].strip()),
}
