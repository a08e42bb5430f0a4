"""Words of answers as SQuAD compares them."""

import re
import string
import unicodedata
from collections import Counter

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def bare(text: str) -> str:
    """The text in lower case, without punctuation, articles and repeated white space (Rajpurkar et al. 2016)."""
    text = unicodedata.normalize("NFC", text)
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def same_words(answer: str, reference: str) -> bool:
    """Whether the words are equal. No answer only equals no reference, although an article leaves no words either."""
    return bare(answer) == bare(reference) and (bool(answer.strip()) or not reference.strip())


def word_f1(answer: str, reference: str) -> float:
    """The F1 score of the words in common; for two texts without words, 1 if they are the same."""
    one, other = bare(answer).split(), bare(reference).split()
    common = sum((Counter(one) & Counter(other)).values())
    return 2 * common / (len(one) + len(other)) if one or other else float(same_words(answer, reference))
