"""Texts of answers as a reader sees them, and their words as SQuAD compares them."""

import re
import string
import unicodedata
from collections import Counter

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation + "–—…«»‹›")

INVISIBLE = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
"Soft hyphens, marks of direction, and spaces without a width; not the joiners that shape letters."
PLAIN = str.maketrans("\u00a0\u2007\u202f\u2010\u2011‘’‛“”„‟", "   --" + "'" * 3 + '"' * 4)
"Spaces and hyphens that do not break, and typographic quotation marks, as keyboards have them."


def as_seen(text: str) -> str:
    """The text in composed letters (NFC), plain spaces, hyphens and quotes, without invisible characters."""
    return text if text.isascii() else unicodedata.normalize("NFC", INVISIBLE.sub("", text).translate(PLAIN))


def bare(text: str) -> str:
    """The text in lower case, without punctuation, articles and repeated white space (Rajpurkar et al. 2016)."""
    return " ".join(ARTICLES.sub(" ", as_seen(text).lower().translate(PUNCTUATION)).split())


def same_words(answer: str, reference: str) -> bool:
    """Whether the words are equal. No answer only equals no reference, although an article leaves no words either."""
    return bare(answer) == bare(reference) and (bool(answer.strip()) or not reference.strip())


def has_words(answer: str, reference: str) -> bool:
    """Whether the answer has the words of the reference in a row."""
    return same_words(answer, reference) or (bool(bare(reference)) and f" {bare(reference)} " in f" {bare(answer)} ")


def word_f1(answer: str, reference: str) -> float:
    """The F1 score of the words in common; for two texts without words, 1 if they are the same."""
    one, other = bare(answer).split(), bare(reference).split()
    common = sum((Counter(one) & Counter(other)).values())
    return 2 * common / (len(one) + len(other)) if one or other else float(same_words(answer, reference))
