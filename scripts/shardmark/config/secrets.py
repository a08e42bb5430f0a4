"""Which texts in a model's file are secrets: they belong in the environment, never in a file, a result or a log."""

import re
from collections.abc import Iterator
from typing import Any

NAME = re.compile(
    r"(?<!cache[-_])key(?!word|board)|token(?!s|i[sz])|secret|passw|pwd|auth(?!ors?\b)|credential|cookie", re.I
)
"Names of headers and keys whose values are secrets, whatever they look like."
KEY = re.compile(
    r"\b(sk|rk|gsk|csk|hf|gh[opsu]|github_pat|glpat|xai|nvapi|pplx|r8|xox[abps])[-_](?=[\w-]*\d)[\w-]{16,}"
    r"|\bAIza[\w-]{30,}|\bAKIA[A-Z0-9]{16}\b|\beyJ[\w-]{10,}\.[\w-]{10,}|[?&][\w-]*(key|token|sig|secret)[\w-]*="
)
"Keys of well-known providers, and addresses with a key, under any name."
RANDOM = re.compile(r"\b(?=[a-zA-Z]*\d)(?=\d*[a-zA-Z])[a-zA-Z0-9]{32,}\b")
"A value that may be a key, in a header: nothing else there is so long and random."
MARK = re.compile(r"<.*>|\[.*\]|\W*")
"A special token, which some arguments are called after, such as eos_token."
OPEN = "seems to hold a key, which must not be in a file"


def is_secret(name: str, value: object) -> bool:
    """Whether the value of a key is a secret that is written out."""
    return isinstance(value, str) and bool(KEY.search(value) or (NAME.search(name) and not MARK.fullmatch(value)))


def texts_in(value: Any, path: str = "", name: str = "") -> Iterator[tuple[str, str, str]]:
    """Each text within a value: its path, the last key in that path, and the text."""
    if isinstance(value, str):
        yield path, name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts_in(inner, f"{path}.{key}".lstrip("."), str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner, path, name)


def secrets_in(values: dict[str, Any]) -> list[str]:
    """The paths of keys whose values are secrets."""
    return [path for path, name, text in texts_in(values) if is_secret(name, text)]
