"""The letters of a text that may name an option, and the text without its marks."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from shardmark.texts import wording

LONGEST = 100_000
MOST_LETTERS = 2_000
"In a longer text, or one with more letters, the first and the last half are read."


class Letter(NamedTuple):
    """A letter that stands alone."""

    start: int
    "The index of its beginning, including a bracket before it."
    end: int
    option: str
    "The option it names; empty if there is no such option."
    bracketed: bool


def compiled(*parts: str) -> re.Pattern[str]:
    """A compiled pattern that ignores case."""
    return re.compile("".join(parts), re.IGNORECASE)


QUOTES = '"“”„«»「」『』《》'
TEMPLATE_MARKS = re.compile(r"<\|[^|<>\n]{1,40}\|>|</s>|<eos>|<end_of_turn>|\[/?INST\]")
INVISIBLE = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]")
EMOJI = {first + n: chr(ord("A") + n) for first in (0x1F150, 0x1F170, 0x1F1E6) for n in range(26)}
"Letters in dark circles and squares, and those of flags."
LOOKALIKES = str.maketrans("АВСЕНІЈΑΒΕΗΙ", "ABCEHIJABEHI")
LOOKALIKE = re.compile(r"(?<!\w)[АВСЕНІЈΑΒΕΗΙ](?!\w)(?!\s{1,3}\w)")
"A Cyrillic or Greek letter in place of a Latin one; before a word, it is a word of its own language."
OTHER_SCRIPTS = dict(zip(["أ", "ب", "ج", "د", "এ", "বি", "সি", "ডি"], "ABCDABCD", strict=True))
"The labels of MMMLU's options in Arabic and Bengali."
IN_OTHER_SCRIPTS = re.compile(
    r"(?<![\u0620-\u06d3])[أبجد](?![\u0620-\u06d3])"
    r"|(?<![\u0980-\u09ff])(?:এ|বি|সি|ডি)(?=[ \t]?(?:[.):।*,]|$))",
    re.MULTILINE,
)
MARKUP = (
    (re.compile(r"~~[^~\n]{0,200}~~"), " "),
    (compiled(r"<(b|i|strong|em|u|p|code|span|mark)\b[^<>]{0,60}>([^<>]{0,200})</\1>"), r"\2"),
    (compiled(r"<(?:final_?)?answer>"), "\nanswer: "),
    (compiled(r"</?[a-z_]{2,20}>"), "\n"),
    (re.compile(r"\\f?boxed\s?(?=[{(\\\w])"), " final answer: "),
    (re.compile(r"(?<=\d)(?:\s|~|\\[,;: ]){0,4}\\(?:text|textrm|mathrm|rm)\s?\{\s?[A-Za-z]\s?\}"), " "),
    (re.compile(r"\\(?:text|math|rm|bf|it|tt|display|left|right|big)[a-z]{0,10}\b"), ""),
    (re.compile(r"\\[()\[\],;:! ]|\$"), " "),
    (re.compile(r"【([^【】\n]{1,20})】"), r"(\1)"),
    (re.compile(r"^[ \t*-]{0,9}(?:☐|\[ \]|\( \))[^\n]*", re.MULTILINE), ""),
    (re.compile(r"^[ \t*-]{0,9}(?:☑|☒|\[x\]|\(x\))", re.MULTILINE | re.IGNORECASE), "answer: "),
    (re.compile(rf"[*_`'‘’<>\[{{({QUOTES}]{{1,6}}\s?([A-Za-z])\s?[*_`'‘’<>\]}}){QUOTES}]{{1,6}}(?!\w)"), r"(\1)"),
    (re.compile(rf"[*`{{}}{QUOTES}]|(?<![A-Za-z0-9])_{{1,3}}|_{{1,3}}(?![A-Za-z0-9])|(?<!\w)'|'(?!\w)"), ""),
    (re.compile(r"^[ \t]{0,20}(?:#{1,6}|>|[-•])[ \t]", re.MULTILINE), ""),
    (compiled(r"(?<=\S)\s{0,3}\((?:please )?(?:note|n\.?b\.?|remark)\b[^()\n]{0,300}\)"), ""),
    (compiled(r"\bans\."), "answer:"),
    (re.compile(r"^\s{0,20}A:\s{1,3}(?=\(?[A-Za-z]\)?[ \t]{0,5}(?:\n|\Z))"), ""),
)

GLUE = "0-9A-Za-z\u00c0-\u02af\u0386-\u0587"
"""Characters that form a word with an adjacent Latin letter; Chinese, Japanese, Korean, Thai, Arabic and Indic letters
do not."""
TURKISH_ENDING = r"(?:[dt][iıuü]r|y?[eiıuü])\b"
LETTER = re.compile(
    rf"(?<![{GLUE}_'’&°\\/+#])(?<![{GLUE}][-.])(?P<open>(?<![{GLUE}])[(\[<])?(?P<letter>(?<![{GLUE}]\()[A-Za-z])"
    rf"(?![{GLUE}_&+#]|['’](?!{TURKISH_ENDING})[{GLUE}]|-[{GLUE}]|[./][A-Za-z](?![A-Za-z]))(?P<close>[)\]>])?"
)
BEFORE_NOUN = re.compile(r"\b(?:is|are|was|were|be|has|have|as|of|in|by|with|for|like)[ \t]\Z")
ABOUT_ANSWERS = compiled(r"\b(?:answers?|options?|choices?|choose|correct|right|letter)\b")
COMPOUND = compiled("(?:", wording.COMPOUND, r")[^\w\n]{1,3}$")
AMOUNT = compiled(
    r"(?:(?<!question)(?<!problem)(?<!number)(?<!item)(?<!\b[a-z][.):])(?<!\s)[ \t]+|[=≈{])[^\s=≈{]*\d[})]?[ \t]$"
)
"Before a letter: it is a unit, as in `10 J`."
NAMED = re.compile(r"\b(?:[Oo]ption|[Cc]hoice)[ \t]$")
VOWELS = frozenset("AEIOYaeioy")
"Letters that are words in some language."
WORD = re.compile(r"[ \t]{1,5}[^\W\d_\u0590-\u06ff\u0900-\u0e7f\u2e80-\u9fff\uac00-\ud7af]")
AFTER_OPTION = compiled(r"\s{1,5}(?:", wording.AFTER_OPTION, ")")
ENDS_CLAUSE = compiled(r"\)?\s{0,5}(?:\Z|[.,;:!?。，；：！？…)\n]|(?:", wording.GOES_ON, r")\b)")
DIRECTLY_NOT = compiled(wording.DIRECTLY_NOT)
SUBJECT = compiled(r"\)?\s{0,5}(?:option|choice|sentence|选项|選項|项)?\s{0,3}", wording.VERB)
PLURAL = compiled(r"\)?\s(?:are|were|sind|son|sont|sono|seem|look|can|both|all)\b")
HEAD = re.compile(r"[.):][ \t]")
LABEL = re.compile(r"(?:\s?\([^()\n]{1,40}\))?\s?[.):、|]|\s-\s|\s?[✅❌✓✔✗✘]|[ \t]{0,20}$", re.MULTILINE)
LINE_START = compiled(r"(?:^|\n)[ \t]{0,20}[(|]?[ \t]{0,20}(?:\d[.)][ \t]{1,3})?[(|]?(?:(?:option|choice)[ \t])?$")
COMMA = re.compile(r"\)?\s?,\s?\(?")
LAST = re.compile(r"\)?\s?[.!]?[ \t]{0,5}(?:\n|\Z)")
JOINT = compiled(wording.JOINT)
OR = re.compile(r"\b(?:or|oder)\b")
AND = compiled(r"\b", wording.AND, r"\b")


def cleaned(text: str) -> str:
    """The text without markup of Markdown, LaTeX, HTML and chat templates; a marked letter is put in brackets."""
    if len(text) > LONGEST:
        text = text[: LONGEST // 2] + "\n" + text[-LONGEST // 2 :]
    text = next((part for part in TEMPLATE_MARKS.split(text) if part.strip()), "")
    text = unicodedata.normalize("NFKC", INVISIBLE.sub("", text).translate(EMOJI)).replace("\r\n", "\n")
    text = LOOKALIKE.sub(lambda found: found.group().translate(LOOKALIKES), text)
    if not text.isascii():
        text = IN_OTHER_SCRIPTS.sub(lambda found: OTHER_SCRIPTS[found[0]], text)
    for pattern, replacement in MARKUP:
        text = pattern.sub(replacement, text)
    return text


def letters(text: str, options: Mapping[str, str]) -> list[Letter]:
    """The letters that stand alone, in order; `options` maps the spellings of an option to its name.

    Omits parts of words (`C++`, `D.C.`), other names with a letter (`vitamin C`), articles and pronouns ("A dog", "I
    think"), and lower-case letters before a word.
    """
    matches, half = list(LETTER.finditer(text)), MOST_LETTERS // 2
    matches = matches if len(matches) <= MOST_LETTERS else matches[:half] + matches[-half:]
    return [letter for match in matches if (letter := _letter(text, match, options))]


def _letter(text: str, match: re.Match[str], options: Mapping[str, str]) -> Letter | None:
    written, bracketed = match["letter"], bool(match["open"] and match["close"])
    start, end = match.start(), match.end() if bracketed else match.end("letter")
    if not bracketed:
        if any(each.search(text, max(0, start - 20), start) for each in (COMPOUND, AMOUNT)):
            return None
        named = written.isupper() and NAMED.search(text, max(0, start - 8), start)
        if written in VOWELS and not named and WORD.match(text, end) and not AFTER_OPTION.match(text, end):
            return None
        if written == "a" != options.get(written) and _is_cut_off(text, start):
            return None
        if not (written.isupper() or options.get(written) == written) and not _ends(text, end):
            return None
    return Letter(start, end, options.get(written, ""), bracketed)


def _is_cut_off(text: str, start: int) -> bool:
    """Whether a text was cut off after the article at an index, as in `The sun is a`.

    Unless answers were spoken of, that is likelier than an option in lower case and without a full stop.
    """
    before = text[max(0, start - 60) : start]
    return text[start:].rstrip() == "a" and bool(BEFORE_NOUN.search(before)) and not ABOUT_ANSWERS.search(before)


def _ends(text: str, end: int) -> bool:
    """Whether a small letter has no words after it, or is their subject, as in `the answer is c` and `a is wrong`."""
    return any(pattern.match(text, end, end + 40) for pattern in (ENDS_CLAUSE, HEAD, DIRECTLY_NOT, SUBJECT))


def list_labels(text: str, found: list[Letter], order: list[str]) -> frozenset[Letter]:
    """The letters that head the lines of a list of options, from the first option on."""
    labels: set[Letter] = set()
    run: list[Letter] = []
    for letter in found:
        begins = LINE_START.search(text, max(0, letter.start - 45), letter.start)
        if not (letter.option and begins and LABEL.match(text, letter.end)):
            continue
        expected = order[len(run)] if len(run) < len(order) else ""
        run = [*run, letter] if letter.option == expected else [letter] if letter.option == order[0] else []
        labels |= {*run[-2:]} if len(run) > 1 else set()
    return frozenset(labels)


def enumerations(text: str, found: list[Letter]) -> Iterator[list[Letter]]:
    """The letters in `A or B`, `A, B and C`, `A, B.`: lists of different letters that share one statement."""
    lists: list[list[Letter]] = []
    for one, other in pairwise(found):
        if not JOINT.fullmatch(text, one.end, min(other.start, one.end + 25)) or other.start > one.end + 25:
            continue
        either = OR.search(text, one.end, other.start)
        if SUBJECT.match(text, other.end) and not either and not PLURAL.match(text, other.end):
            continue  # "A, and B is wrong" are two statements
        if lists and lists[-1][-1] == one:
            again = other.option in {letter.option for letter in lists[-1]}
            if not (again and AND.search(text, lists[-1][-2].end, one.start)):  # "Of A, B and C, B": the list has ended
                lists[-1].append(other)
        else:
            lists.append([one, other])
    for each in lists:
        pair = len(each) == 2 and COMMA.fullmatch(text, each[0].end, each[1].start)
        if len({letter.option for letter in each}) > 1 and not (pair and not LAST.match(text, each[1].end)):
            yield each
