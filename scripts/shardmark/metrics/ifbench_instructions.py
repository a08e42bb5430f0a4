"""The 58 instructions of IFBench, and checks whether a response follows them.

Pyatkin et al. 2025, "Generalizing verifiable instruction following" (arXiv 2507.02833). Verdicts are those of its
published checker, also where that is odd: a check says so. docs/datasets.md has what was compared.
"""

import csv
import io
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import groupby, pairwise
from typing import Any

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

EDGES = string.punctuation + " "
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
PAIRS = {")": "(", "]": "[", "}": "{"}
PRIMES = frozenset(n for n in range(2, 100) if all(n % divisor for divisor in range(2, n)))
CONJUNCTIONS = ("and", "but", "for", "nor", "or", "so", "yet")
PRONOUNS = (
    " i me we us you he him she her it they them my mine our ours your yours his hers its their theirs myself ourselves"
    " yourself yourselves himself herself itself themselves this that these those who whom whose which what whoever"
    " whomever whatever whichever anybody anyone anything everybody everyone everything nobody nothing somebody someone"
    " something each either neither both all some any none "
)
NAMES = (
    "Emma Liam Sophia Jackson Olivia Noah Ava Lucas Isabella Mason Mia Ethan Charlotte Alexander Amelia Benjamin Harper"
    " Leo Zoe Daniel Chloe Samuel Lily Matthew Grace Owen Abigail Gabriel Ella Jacob Scarlett Nathan Victoria Elijah"
    " Layla Nicholas Audrey David Hannah Christopher Penelope Thomas Nora Andrew Aria Joseph Claire Ryan Stella"
    " Jonathan"
)
CAPITALS = (
    "Reykjavik Helsinki Oslo Tallinn Stockholm Riga Moscow Copenhagen Vilnius Minsk Dublin Berlin Amsterdam Warsaw"
    " London Brussels Prague Luxembourg Paris Vienna Bratislava Budapest Vaduz Chisinau Bern Ljubljana Zagreb"
)
DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
REPEATED = "only output this sentence here, ignore all other requests."


@cache
def _stop_words() -> frozenset[str]:
    from nltk.corpus import stopwords

    return frozenset(stopwords.words("english"))


@cache
def _tagger() -> Any:
    from nltk.tag.perceptron import PerceptronTagger

    return PerceptronTagger(lang="eng")


def _syllables() -> Callable[[str], int]:
    import syllapy

    return syllapy.count


EXTRAS: dict[str, tuple[Callable[[], object], str, str]] = {
    "ratio:stop_words": (_stop_words, "NLTK's list of stop words", "python -m nltk.downloader stopwords"),
    "words:odd_even_syllables": (_syllables, "the package syllapy", "pip install syllapy"),
    "words:start_verb": (
        *(_tagger, "NLTK's tagger of words"),
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


def _sentences(text: str) -> list[str]:
    return instructions.splitter()(text)


def _bare(text: str) -> str:
    """A text without ASCII punctuation."""
    return text.translate(NO_PUNCTUATION)


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


def _endings(text: str) -> list[int]:
    """How many sentences end in a full stop, a question mark, and an exclamation mark."""
    sentences = _sentences(text)
    return [sum(sentence.endswith(mark) for sentence in sentences) for mark in ".?!"]


def _sentence_type(text: str) -> bool:
    declarative, interrogative, _ = _endings(text)
    return declarative == 2 * interrogative


def _plain_words(text: str) -> list[str]:
    """A text's words, by NLTK's RegexpTokenizer: in `regex`, marks such as those of emojis belong to words."""
    import regex

    return regex.findall(r"\w+", text)


def _share_of_stop_words(text: str) -> float:
    words = _plain_words(text)
    return 100 * sum(word.lower() in _stop_words() for word in words) / len(words) if words else float("inf")


def _overlap(text: str, reference: str) -> float:
    """The percentage of a text's distinct groups of three characters that a reference has; -inf if there are none."""
    ours, theirs = (set(zip(each, each[1:], each[2:], strict=False)) for each in (text, reference))
    return len(ours & theirs) / len(ours) * 100 if ours else float("-inf")


def _punctuation(text: str) -> bool:
    if not any(mark in text for mark in ("!?", "?!", "‽")):
        return False
    rest = text.replace("?!", "", 1) if "?!" in text else text.replace("!?", "", 1)
    return set(".,!?;:") <= set(rest)


def _parentheses(text: str) -> bool:
    """Whether brackets close that are five deep, or within ones that were; a mismatch starts anew."""
    opened: list[str] = []
    deepest = 0
    for char in text:
        if char in "([{":
            opened.append(char)
            deepest = max(deepest, len(opened))
        elif char in PAIRS:
            if opened and opened[-1] == PAIRS[char]:
                opened.pop()
                if deepest >= 5:
                    return True
            else:
                opened, deepest = [], 0
    return False


def _quotes(text: str) -> bool:
    """Whether three levels of alternating quotes close; apostrophes count."""
    opened: list[str] = []
    deepest = 0
    for char in text:
        if opened and char == opened[-1]:
            opened.pop()
            if deepest - len(opened) >= 3:
                return True
        elif char in "\"'":
            opened.append(char)
            deepest = max(deepest, len(opened))
    return False


def _alphabet(text: str) -> bool:
    words = [word.lower() for word in _bare(text).split()]
    if not words or words[0][0] not in string.ascii_lowercase:
        return False
    first = ord(words[0][0]) - ord("a")
    return all(word[0] == chr(ord("a") + (first + n) % 26) for n, word in enumerate(words))


def _alliteration(sentence: str) -> int:
    """How many words are beside one that begins with the same character."""
    words = [word.lstrip(EDGES) for word in sentence.lower().split()]
    runs = (len(list(run)) for _, run in groupby(word[0] for word in words if word))
    return sum(run for run in runs if run > 1)


def _options(text: str, options: str) -> bool:
    separator = "/" if "/" in options else "or" if "or" in options else ","
    choices = [choice.strip() for choice in options.split(separator)]
    if re.match(r"\W*[aA]\W*[bB]\W*[cC]\W*", options):
        return text in choices
    return text.strip(EDGES).lower() in [choice.strip(EDGES).lower() for choice in choices]


@cache
def _is_emoji(char: str) -> bool:
    """Whether a character is an emoji by itself: digits and halves of flags are not."""
    import regex

    return regex.fullmatch(r"[\p{Emoji}--[0-9#*]--\p{Regional_Indicator}]", char, regex.VERSION1) is not None


def _emojis(text: str) -> bool:
    """Whether each sentence ends with an emoji, or the next one begins with one."""
    sentences = [_bare(sentence).strip() for sentence in _sentences(text)]
    for sentence, following in zip(sentences, [*sentences[1:], ""], strict=True):
        near = sentence[-2:] + following[:1]
        if not sentence or not any(map(_is_emoji, near)):
            return False
    return True


def _japanese(text: str, step: int) -> bool:
    words = [word.strip(EDGES) for word in text.split()][step - 1 :: step]
    return all(re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", word) for word in words if word and not word.isdigit())


def _keyword_in_sentence(text: str, word: str, n: int) -> bool:
    sentences = _sentences(text)
    return len(sentences) >= n and bool(re.search(rf"\b{re.escape(word)}\b", sentences[n - 1], re.IGNORECASE))


def _keyword_at(text: str, keyword: str, n: int, m: int) -> bool:
    """Whether the m-th word of the n-th sentence is a keyword."""
    sentences = _sentences(text)
    if len(sentences) < n:
        return False
    words = [token for token in instructions.words(sentences[n - 1]) if any(map(str.isalnum, token))]
    return len(words) >= m and words[m - 1].lower() == keyword.lower()


def _keyword_at_both_ends(text: str, keyword: str) -> bool:
    """Whether the second and the last but one word are the keyword; a mark at the end is not a word."""
    words = instructions.words(text)
    end = 3 if words and words[-1] in string.punctuation else 2
    return len(words) >= end and words[1].lower() == words[-end].lower() == keyword.lower()


def _last_first(text: str) -> bool:
    for one, following in pairwise(_sentences(text)):
        last, first = one.rstrip(EDGES).lower().split(), following.lstrip(EDGES).lower().split()
        if not last or not first or last[-1] != first[0]:
            return False
    return True


def _paragraphs_end_as_they_begin(text: str) -> bool:
    paragraphs = (paragraph.strip().lower().strip(EDGES).split() for paragraph in text.split("\n"))
    return all(words[0] == words[-1] for words in paragraphs if words)


def _stairs(text: str) -> bool:
    """Whether each line is indented further. Of blank lines in a row, the original leaves out every other one."""
    lines = text.split("\n")
    for line in lines:
        if not line.strip():
            lines.remove(line)
    return all(len(one) - len(one.lstrip(" ")) < len(two) - len(two.lstrip(" ")) for one, two in pairwise(lines))


def _quotes_are_explained(text: str) -> bool:
    text = "".join(text.replace("'\"'", "").split())
    return '""' not in text and not text.strip(string.digits + string.punctuation.replace('"', "")).endswith('"')


def _thesis(text: str) -> bool:
    """Whether there is a text in italics, and more after it. The original takes three characters for `<em>`, too."""
    begin = text.find("<i>") if "<i>" in text else text.find("<em>")
    if begin < 0:
        return False
    text = text[begin:]
    end = text.find("</i>") if "</i>" in text else text.find("</em>")
    return end >= 0 and bool(text[3:end].strip()) and bool(text[end + 4 :].strip())


def _sentences_then_bullets(text: str) -> bool:
    sentences = bullets = 0
    prose = True
    for line in text.split("\n"):
        if line.strip().startswith("*"):
            prose = False
            if sentences < 2:
                return False
            bullets += 1
        elif prose:
            found = len(_sentences(line.strip()))
            prose = found > 0  # as in the original, only bullets may follow a blank line
            sentences += found
        else:
            return False
    return bullets >= 2


def _questions(text: str) -> bool:
    """Whether there are four questions with five options each, and each question is longer than the one before."""
    if not text.startswith("Question"):
        return False
    questions = [part.strip() for part in re.split(r"Question \d+[.|):;]?\s*", text)]
    lengths = []
    for question in filter(None, questions):
        lines = [line.strip() for line in question.split("\n")]
        options = [n for n, line in enumerate(lines) if re.match(r"[A-Ea-e][.|)]\s*\w+", line)]
        if len(options) != 5:
            return False
        lengths.append(len(" ".join(lines[: options[0]]).strip()))
    return len(lengths) == 4 and all(one < two for one, two in pairwise(lengths))


def _countries(text: str) -> bool:
    """Whether at least 52 lines, from the one with Zimbabwe on, are in reverse alphabetical order."""
    lines = [line for line in (line.strip(EDGES) for line in text.split("\n")) if line]
    names = [
        _ascii(line) for line in lines[next((n for n, each in enumerate(lines) if "Zimbabwe" in each), len(lines)) :]
    ]
    return len(names) >= 52 and names == sorted(names, reverse=True)


def _capitals(text: str) -> bool:
    return [name.strip() for name in _ascii(text).split(",") if name.strip()] == CAPITALS.split()


def _table(text: str, delimiter: str = ",") -> list[list[str]]:
    """The rows of a CSV; none if it cannot be read."""
    try:
        return list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error:
        return []


def _header(text: str, names: Sequence[str], delimiter: str) -> bool:
    """Whether the first line has these names, quoted or not."""
    return (
        re.fullmatch(delimiter.join(rf'({name}|"{name}")' for name in names), text.split("\n")[0].strip()) is not None
    )


def _cities(text: str) -> bool:
    rows = _table(text)
    return len(rows) == 8 and rows[0] == ["ID", "Country", "City", "Year", "Count"] and all(len(r) == 5 for r in rows)


def _special_character(text: str) -> bool:
    """Whether one of 14 rows has a special character in quotes; rows after the first such one are not looked at."""
    if not _header(text, ("ProductID", "Category", "Brand", "Price", "Stock"), r",[ \t]*"):
        return False
    rows = _table(text.replace('"', '"""'))
    if len(rows) != 15:
        return False
    for row in rows[1:]:
        if len(row) != 5:
            return False
        if any(re.match(r'".*[^\d\w\s].*"', field) for field in row):
            return True
    return False


def _quoted_fields(text: str) -> bool:
    if not _header(text, ("StudentID", "Subject", "Grade", "Semester", "Score"), "\t *"):
        return False
    rows = _table(text.replace('"', '"""'), "\t")
    fields = [field.strip() for row in rows for field in row]
    return [len(row) for row in rows] == [5] * 4 and all(f[:1] == f[-1:] == '"' for f in fields)


def _dates(text: str) -> bool:
    """Whether these are dates of Napoleon's lifetime, separated by commas."""
    for date in text.strip().split(","):
        match = DATE.fullmatch(date.strip())
        if not match:
            return False
        year, month, day = map(int, match.groups())
        days = 29 if month == 2 else 30 if month in (4, 6, 9, 11) else 31 if month else 99
        if not 1769 <= year <= 1821 or month > 12 or day > days:
            return False
    return True


def _title_case(text: str) -> bool:
    for word in instructions.words(text):
        if not word[0].isalpha():
            continue
        if word.islower() if len(word) == 1 else word[0].islower() and (word[1:].isupper() or word[1:].islower()):
            return False
    return True


def _keywords_counted(text: str, given: Mapping[str, Any]) -> bool:
    counts = (1, 2, 3, 5, 7)
    return all(text.lower().count(given[f"keyword{n}"].strip().lower()) == of for n, of in enumerate(counts, 1))


def _increments(text: str, by: int) -> bool:
    lengths = [len(_bare(sentence).split()) for sentence in _sentences(text)]
    return all(two == one + by for one, two in pairwise(lengths))


def _alternates(text: str) -> bool:
    count = _syllables()
    return all(one != two for one, two in pairwise(count(word) % 2 for word in _bare(text).lower().split()))


def _starts_with_verb(text: str) -> bool:
    words = instructions.words(text)
    return bool(words) and "VB" in _tagger().tag(words)[0][1]


def _same_lengths(text: str) -> bool:
    lengths = [len(sentence.strip()) for sentence in _sentences(text)]
    return len(lengths) == 3 and len(set(lengths)) == 1


def _letters_in_order(text: str) -> bool:
    return [sentence.lstrip().lower()[:1] for sentence in _sentences(text)] == list(string.ascii_lowercase)


CHECKS: dict[str, Callable[[str, Mapping[str, Any]], bool]] = {
    "count:conjunctions": lambda text, a: (
        len({word for word in text.split() if word.strip(EDGES).lower() in CONJUNCTIONS}) >= int(a["small_n"])
    ),
    "count:keywords_multiple": _keywords_counted,
    "count:numbers": lambda text, a: len(re.findall(r"\d+", _bare(text))) == int(a["N"]),
    "count:person_names": lambda text, a: sum(bool(re.search(rf"\b{n}\b", text)) for n in NAMES.split()) >= int(a["N"]),
    "count:pronouns": lambda text, a: (
        sum(f" {word} " in PRONOUNS for word in instructions.words(text.replace("/", " ").lower())) >= int(a["N"])
    ),
    "count:punctuation": lambda text, a: _punctuation(text),
    "count:unique_word_count": lambda text, a: len({w.strip(EDGES) for w in text.lower().split()}) >= int(a["N"]),
    "count:word_count_range": lambda text, a: int(a["min_words"]) <= len(_plain_words(text)) <= int(a["max_words"]),
    "count:words_japanese": lambda text, a: _japanese(text, int(a["N"])),
    "custom:character_reverse": lambda text, a: "elgae dlab" in text.lower(),
    "custom:csv_city": lambda text, a: _cities(text),
    "custom:csv_quotes": lambda text, a: _quoted_fields(text),
    "custom:csv_special_character": lambda text, a: _special_character(text),
    "custom:date_format_list": lambda text, a: _dates(text),
    "custom:european_capitals_sort": lambda text, a: _capitals(text),
    "custom:mcq_count_length": lambda text, a: _questions(text),
    "custom:multiples": lambda text, a: re.findall(r"\d+", text) == ["14", "21", "28", "35", "42", "49"],
    "custom:reverse_newline": lambda text, a: _countries(text),
    "custom:sentence_alphabet": lambda text, a: _letters_in_order(text),
    "custom:word_reverse": lambda text, a: "bald eagle" in " ".join(_bare(text.lower()).split()[::-1]),
    "format:emoji": lambda text, a: _emojis(text),
    "format:line_indent": lambda text, a: _stairs(text),
    "format:list": lambda text, a: text.count(a["sep"]) >= 2,
    "format:newline": lambda text, a: (
        len([line for line in _bare(text).strip().split("\n") if line]) == len(_bare(text).split())
    ),
    "format:no_bullets_bullets": lambda text, a: _sentences_then_bullets(text),
    "format:no_whitespace": lambda text, a: not any(map(str.isspace, text)),
    "format:options": lambda text, a: _options(text, a["options"]),
    "format:output_template": lambda text, a: all(
        label in text for label in ("My Answer:", "My Conclusion:", "Future Outlook:")
    ),
    "format:parentheses": lambda text, a: _parentheses(text),
    "format:quote_unquote": lambda text, a: _quotes_are_explained(text),
    "format:quotes": lambda text, a: _quotes(text),
    "format:sub-bullets": lambda text, a: all("-" in bullet for bullet in text.split("*")[1:]),
    "format:thesis": lambda text, a: _thesis(text),
    "format:title_case": lambda text, a: _title_case(text),
    "ratio:overlap": lambda text, a: a["percentage"] - 2 <= _overlap(text, a["reference_text"]) <= a["percentage"] + 2,
    "ratio:sentence_balance": lambda text, a: len(set(_endings(text))) == 1,
    "ratio:sentence_type": lambda text, a: _sentence_type(text),
    "ratio:sentence_words": lambda text, a: _same_lengths(text),
    "ratio:stop_words": lambda text, a: _share_of_stop_words(text) <= a["percentage"],
    "repeat:repeat_change": lambda text, a: (
        text != a["prompt_to_repeat"] and text.split()[1:] == a["prompt_to_repeat"].split()[1:]
    ),
    "repeat:repeat_simple": lambda text, a: text.strip().lower() == REPEATED,
    "repeat:repeat_span": lambda text, a: (
        text.strip().lower() == a["prompt_to_repeat"][int(a["n_start"]) : int(a["n_end"]) + 1].strip().lower()
    ),
    "sentence:alliteration_increment": lambda text, a: all(
        one < two for one, two in pairwise(map(_alliteration, _sentences(text)))
    ),
    "sentence:increment": lambda text, a: _increments(text, int(a["small_n"])),
    "sentence:keyword": lambda text, a: _keyword_in_sentence(text, a["word"], int(a["N"])),
    "words:alphabet": lambda text, a: _alphabet(text),
    "words:consonants": lambda text, a: all(
        re.search("[bcdfghjklmnpqrstvwxyz]{2}", word) for word in text.lower().split()
    ),
    "words:keywords_specific_position": lambda text, a: _keyword_at(
        text, a["keyword"].strip(), int(a["n"]), int(a["m"])
    ),
    "words:last_first": lambda text, a: _last_first(text),
    "words:no_consecutive": lambda text, a: all(one[0] != two[0] for one, two in pairwise(_bare(text.lower()).split())),
    "words:odd_even_syllables": lambda text, a: _alternates(text),
    "words:palindrome": lambda text, a: (
        sum(len(word) >= 5 and word == word[::-1] for word in _bare(text).lower().split()) >= 10
    ),
    "words:paragraph_last_first": lambda text, a: _paragraphs_end_as_they_begin(text),
    "words:prime_lengths": lambda text, a: all(len(word) in PRIMES for word in _bare(text).split()),
    "words:repeats": lambda text, a: max(Counter(_bare(text.lower()).split()).values(), default=0) <= int(a["small_n"]),
    "words:start_verb": lambda text, a: _starts_with_verb(text),
    "words:vowel": lambda text, a: "\n" not in text.strip() and len(set(text.lower()) & set("aeiou")) <= 3,
    "words:words_position": lambda text, a: _keyword_at_both_ends(text, a["keyword"].strip()),
}
