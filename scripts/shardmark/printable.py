"""Text that a terminal shows but does not obey: the one place where foreign text is made safe."""

import os
import re
import unicodedata

SECRETS = [
    (re.compile(r"\bhf_[A-Za-z0-9]{8,}"), "hf_***"),
    (re.compile(r"(?i)\b(bearer|basic) (?=\S*\d)[A-Za-z0-9+/=._~-]{12,}"), r"\1 ***"),
    (re.compile(r"(?i)(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^\s/@'\"]+@"), r"\g<scheme>***@"),
]
"Tokens of the Hub, headers, and user names with passwords in addresses, such as a proxy's."
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
SHORTEST = 6
"The fewest characters of a token that is looked for; anything shorter is not one, and would be found in words."


def redacted(text: str) -> str:
    """The text without secrets of the Hub and of proxies, which libraries repeat in messages."""
    for pattern, mark in SECRETS:
        text = pattern.sub(mark, text)
    for token in filter(None, map(os.environ.get, TOKENS)):
        text = text.replace(token, "***") if len(token) >= SHORTEST else text
    return text


def unsigned(text: str) -> str:
    """A text without the queries of its addresses, with which anyone could download the file."""
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", text)


def one_line(error: Exception) -> str:
    """The message of another library's exception, in one line and without secrets."""
    import textwrap  # only needed when something has failed

    return textwrap.shorten(unsigned(str(error)), 400, placeholder=" ...") or type(error).__name__


def without_surrogates(text: str) -> str:
    """The text as UTF-8 can encode it: surrogate pairs in two halves are joined, others become U+FFFD."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def printable(text: str) -> str:
    """The text with each character that is hidden, or that a terminal would obey, escaped as in Python.

    Escape sequences and marks that reverse the direction of writing would let a name or a description pretend to be
    something else. Newlines, tabs and the spaces of other scripts stay.
    """
    return text if text.isprintable() else "".join(map(_character, text))


def _character(character: str) -> str:
    if character in "\n\t" or character.isprintable() or unicodedata.category(character) in ("Co", "Zs"):
        return character
    return escaped(character)


def escaped(character: str) -> str:
    """A character escaped as in Python's ASCII source."""
    return character.encode("unicode_escape").decode("ascii")
