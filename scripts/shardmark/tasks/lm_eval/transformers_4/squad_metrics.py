"""SQuAD's scores of an answer under the names of Transformers 4 (Rajpurkar et al. 2016, 2018)."""

import re
import string
from collections import Counter

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(s: str) -> str:
    """The text in lower case, without punctuation, articles and repeated white space."""
    return " ".join(ARTICLES.sub(" ", s.lower().translate(PUNCTUATION)).split())


def get_tokens(s: str) -> list[str]:
    """The words of a text."""
    return normalize_answer(s).split() if s else []


def compute_exact(a_gold: str, a_pred: str) -> int:
    """1 if both have the same words, else 0."""
    return int(normalize_answer(a_gold) == normalize_answer(a_pred))


def compute_f1(a_gold: str, a_pred: str) -> float:
    """The harmonic mean of the shares of common words; 1 for two texts without words."""
    gold, found = get_tokens(a_gold), get_tokens(a_pred)
    if not gold or not found:
        return int(gold == found)
    common = sum((Counter(gold) & Counter(found)).values())
    precision, recall = common / len(found), common / len(gold)
    return 2 * precision * recall / (precision + recall) if common else 0
