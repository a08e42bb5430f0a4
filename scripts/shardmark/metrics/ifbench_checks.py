"""What IFBench's instructions look for in a response: one function for each that takes more than a line.

Verdicts are those of IFBench's published checker, also where that is odd.
"""

import csv
import io
import re
import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import groupby, pairwise
from typing import Any

from shardmark.metrics import instructions

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
def stop_words() -> frozenset[str]:
    from nltk.corpus import stopwords

    return frozenset(stopwords.words("english"))


@cache
def tagger() -> Any:
    from nltk.tag.perceptron import PerceptronTagger

    return PerceptronTagger(lang="eng")


def syllables() -> Callable[[str], int]:
    import syllapy

    return syllapy.count


def sentences_of(text: str) -> list[str]:
    return instructions.splitter()(text)


def bare(text: str) -> str:
    """A text without ASCII punctuation."""
    return text.translate(NO_PUNCTUATION)


def ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


def endings(text: str) -> list[int]:
    """How many sentences end in a full stop, a question mark, and an exclamation mark."""
    sentences = sentences_of(text)
    return [sum(sentence.endswith(mark) for sentence in sentences) for mark in ".?!"]


def sentence_type(text: str) -> bool:
    declarative, interrogative, _ = endings(text)
    return declarative == 2 * interrogative


def plain_words(text: str) -> list[str]:
    """A text's words, by NLTK's RegexpTokenizer: in `regex`, marks such as those of emojis belong to words."""
    import regex

    return regex.findall(r"\w+", text)


def share_of_stop_words(text: str) -> float:
    words = plain_words(text)
    return 100 * sum(word.lower() in stop_words() for word in words) / len(words) if words else float("inf")


def overlap(text: str, reference: str) -> float:
    """The percentage of a text's distinct groups of three characters that a reference has; -inf if there are none."""
    ours, theirs = (set(zip(each, each[1:], each[2:], strict=False)) for each in (text, reference))
    return len(ours & theirs) / len(ours) * 100 if ours else float("-inf")


def punctuation(text: str) -> bool:
    if not any(mark in text for mark in ("!?", "?!", "‽")):
        return False
    rest = text.replace("?!", "", 1) if "?!" in text else text.replace("!?", "", 1)
    return set(".,!?;:") <= set(rest)


def parentheses(text: str) -> bool:
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


def quotes(text: str) -> bool:
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


def alphabet(text: str) -> bool:
    words = [word.lower() for word in bare(text).split()]
    if not words or words[0][0] not in string.ascii_lowercase:
        return False
    first = ord(words[0][0]) - ord("a")
    return all(word[0] == chr(ord("a") + (first + n) % 26) for n, word in enumerate(words))


def alliteration(sentence: str) -> int:
    """How many words are beside one that begins with the same character."""
    words = [word.lstrip(EDGES) for word in sentence.lower().split()]
    runs = (len(list(run)) for _, run in groupby(word[0] for word in words if word))
    return sum(run for run in runs if run > 1)


def options(text: str, options: str) -> bool:
    separator = "/" if "/" in options else "or" if "or" in options else ","
    choices = [choice.strip() for choice in options.split(separator)]
    if re.match(r"\W*[aA]\W*[bB]\W*[cC]\W*", options):
        return text in choices
    return text.strip(EDGES).lower() in [choice.strip(EDGES).lower() for choice in choices]


@cache
def is_emoji(char: str) -> bool:
    """Whether a character is an emoji by itself: digits and halves of flags are not."""
    import regex

    return regex.fullmatch(r"[\p{Emoji}--[0-9#*]--\p{Regional_Indicator}]", char, regex.VERSION1) is not None


def emojis(text: str) -> bool:
    """Whether each sentence ends with an emoji, or the next one begins with one."""
    sentences = [bare(sentence).strip() for sentence in sentences_of(text)]
    for sentence, following in zip(sentences, [*sentences[1:], ""], strict=True):
        near = sentence[-2:] + following[:1]
        if not sentence or not any(map(is_emoji, near)):
            return False
    return True


def japanese(text: str, step: int) -> bool:
    words = [word.strip(EDGES) for word in text.split()][step - 1 :: step]
    return all(re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", word) for word in words if word and not word.isdigit())


def keyword_in_sentence(text: str, word: str, n: int) -> bool:
    sentences = sentences_of(text)
    return len(sentences) >= n and bool(re.search(rf"\b{re.escape(word)}\b", sentences[n - 1], re.IGNORECASE))


def keyword_at(text: str, keyword: str, n: int, m: int) -> bool:
    """Whether the m-th word of the n-th sentence is a keyword."""
    sentences = sentences_of(text)
    if len(sentences) < n:
        return False
    words = [token for token in instructions.words(sentences[n - 1]) if any(map(str.isalnum, token))]
    return len(words) >= m and words[m - 1].lower() == keyword.lower()


def keyword_at_both_ends(text: str, keyword: str) -> bool:
    """Whether the second and the last but one word are the keyword; a mark at the end is not a word."""
    words = instructions.words(text)
    end = 3 if words and words[-1] in string.punctuation else 2
    return len(words) >= end and words[1].lower() == words[-end].lower() == keyword.lower()


def last_first(text: str) -> bool:
    for one, following in pairwise(sentences_of(text)):
        last, first = one.rstrip(EDGES).lower().split(), following.lstrip(EDGES).lower().split()
        if not last or not first or last[-1] != first[0]:
            return False
    return True


def paragraphs_end_as_they_begin(text: str) -> bool:
    paragraphs = (paragraph.strip().lower().strip(EDGES).split() for paragraph in text.split("\n"))
    return all(words[0] == words[-1] for words in paragraphs if words)


def stairs(text: str) -> bool:
    """Whether each line is indented further. Of blank lines in a row, the original leaves out every other one."""
    lines = text.split("\n")
    for line in lines:
        if not line.strip():
            lines.remove(line)
    return all(len(one) - len(one.lstrip(" ")) < len(two) - len(two.lstrip(" ")) for one, two in pairwise(lines))


def quotes_are_explained(text: str) -> bool:
    text = "".join(text.replace("'\"'", "").split())
    return '""' not in text and not text.strip(string.digits + string.punctuation.replace('"', "")).endswith('"')


def thesis(text: str) -> bool:
    """Whether there is a text in italics, and more after it. The original takes three characters for `<em>`, too."""
    begin = text.find("<i>") if "<i>" in text else text.find("<em>")
    if begin < 0:
        return False
    text = text[begin:]
    end = text.find("</i>") if "</i>" in text else text.find("</em>")
    return end >= 0 and bool(text[3:end].strip()) and bool(text[end + 4 :].strip())


def sentences_then_bullets(text: str) -> bool:
    sentences = bullets = 0
    prose = True
    for line in text.split("\n"):
        if line.strip().startswith("*"):
            prose = False
            if sentences < 2:
                return False
            bullets += 1
        elif prose:
            found = len(sentences_of(line.strip()))
            prose = found > 0  # as in the original, only bullets may follow a blank line
            sentences += found
        else:
            return False
    return bullets >= 2


def questions(text: str) -> bool:
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


def countries(text: str) -> bool:
    """Whether at least 52 lines, from the one with Zimbabwe on, are in reverse alphabetical order."""
    lines = [line for line in (line.strip(EDGES) for line in text.split("\n")) if line]
    names = [
        ascii(line) for line in lines[next((n for n, each in enumerate(lines) if "Zimbabwe" in each), len(lines)) :]
    ]
    return len(names) >= 52 and names == sorted(names, reverse=True)


def capitals(text: str) -> bool:
    return [name.strip() for name in ascii(text).split(",") if name.strip()] == CAPITALS.split()


def table(text: str, delimiter: str = ",") -> list[list[str]]:
    """The rows of a CSV; none if it cannot be read."""
    try:
        return list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error:
        return []


def header(text: str, names: Sequence[str], delimiter: str) -> bool:
    """Whether the first line has these names, quoted or not."""
    return (
        re.fullmatch(delimiter.join(rf'({name}|"{name}")' for name in names), text.split("\n")[0].strip()) is not None
    )


def cities(text: str) -> bool:
    rows = table(text)
    return len(rows) == 8 and rows[0] == ["ID", "Country", "City", "Year", "Count"] and all(len(r) == 5 for r in rows)


def special_character(text: str) -> bool:
    """Whether one of 14 rows has a special character in quotes; rows after the first such one are not looked at."""
    if not header(text, ("ProductID", "Category", "Brand", "Price", "Stock"), r",[ \t]*"):
        return False
    rows = table(text.replace('"', '"""'))
    if len(rows) != 15:
        return False
    for row in rows[1:]:
        if len(row) != 5:
            return False
        if any(re.match(r'".*[^\d\w\s].*"', field) for field in row):
            return True
    return False


def quoted_fields(text: str) -> bool:
    if not header(text, ("StudentID", "Subject", "Grade", "Semester", "Score"), "\t *"):
        return False
    rows = table(text.replace('"', '"""'), "\t")
    fields = [field.strip() for row in rows for field in row]
    return [len(row) for row in rows] == [5] * 4 and all(f[:1] == f[-1:] == '"' for f in fields)


def dates(text: str) -> bool:
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


def title_case(text: str) -> bool:
    for word in instructions.words(text):
        if not word[0].isalpha():
            continue
        if word.islower() if len(word) == 1 else word[0].islower() and (word[1:].isupper() or word[1:].islower()):
            return False
    return True


def keywords_counted(text: str, given: Mapping[str, Any]) -> bool:
    counts = (1, 2, 3, 5, 7)
    return all(text.lower().count(given[f"keyword{n}"].strip().lower()) == of for n, of in enumerate(counts, 1))


def increments(text: str, by: int) -> bool:
    lengths = [len(bare(sentence).split()) for sentence in sentences_of(text)]
    return all(two == one + by for one, two in pairwise(lengths))


def alternates(text: str) -> bool:
    count = syllables()
    return all(one != two for one, two in pairwise(count(word) % 2 for word in bare(text).lower().split()))


def starts_with_verb(text: str) -> bool:
    words = instructions.words(text)
    return bool(words) and "VB" in tagger().tag(words)[0][1]


def same_lengths(text: str) -> bool:
    lengths = [len(sentence.strip()) for sentence in sentences_of(text)]
    return len(lengths) == 3 and len(set(lengths)) == 1


def letters_in_order(text: str) -> bool:
    return [sentence.lstrip().lower()[:1] for sentence in sentences_of(text)] == list(string.ascii_lowercase)
