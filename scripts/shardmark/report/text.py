"""Text made safe and legible for a page: control characters, whitespace, long prompts, anchors."""

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

LINE_WIDTH = 96
SHOWN_LINES = 12

# What UTF-8 or XML cannot hold becomes U+FFFD; other control characters become their control pictures.
_UNENCODABLE = dict.fromkeys([*range(0xD800, 0xE000), 0xFFFE, 0xFFFF], 0xFFFD)
_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
_REPLACEMENTS = _UNENCODABLE | _CONTROLS


def clean(value: object) -> Any:
    """A JSON value with every string, keys included, safe to write as UTF-8, HTML and XML.

    Surrogate pairs that a model left in two halves are joined; what stays unpaired becomes U+FFFD, and
    control characters other than tab and newline become visible control pictures (NUL: U+2400).
    """
    if isinstance(value, str):
        return _join_surrogates(value).translate(_REPLACEMENTS)
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    return value


def _join_surrogates(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Piece(NamedTuple):
    """A stretch of text of one kind: "text", or whitespace to be marked: "space", "tab", "newline"."""

    kind: str
    text: str


_WHITESPACE = re.compile(r"(?P<newline>\n)|(?P<tab>\t)|(?P<space>\A +| +\Z| +(?=\n)|(?<=\n) +| {2,})")


def whitespace_pieces(text: str) -> list[Piece]:
    """Split a text so that spaces at the ends of lines, runs of spaces, tabs and newlines can be marked.

    The pieces joined give the text back, so that a selection copied from the page is the true output.
    """
    pieces, end = [], 0
    for match in _WHITESPACE.finditer(text):
        if match.start() > end:
            pieces.append(Piece("text", text[end : match.start()]))
        pieces.append(Piece(match.lastgroup or "space", match.group()))
        end = match.end()
    return [*pieces, Piece("text", text[end:])] if end < len(text) else pieces


class Folded(NamedTuple):
    """A prompt cut in two: the part to fold away (empty if short) and the part to show."""

    hidden: str
    shown: str


def fold(prompt: str, lines: int = SHOWN_LINES, width: int = LINE_WIDTH) -> Folded:
    """Fold all but the last `lines` lines (wrapped at `width`) of a prompt.

    The end is what stays in sight: a few-shot prompt puts the question that was asked last.
    """
    start = _tail_start(prompt, lines, width)
    start += len(prompt) - start - len(prompt[start:].lstrip("\n"))
    # Folding away two or three lines costs the reader more than it saves.
    worth = count_lines(prompt[:start], width) > 3 and start < len(prompt)
    return Folded(prompt[:start], prompt[start:]) if worth else Folded("", prompt)


def _tail_start(prompt: str, lines: int, width: int) -> int:
    """Where the last `lines` lines begin; a paragraph too long for them is cut at a space."""
    start = len(prompt)
    for line in reversed(prompt.splitlines(keepends=True)):
        if _wrapped(line, width) > lines:
            cut = start - max(0, lines - 1) * width
            space = prompt.find(" ", cut, start)
            return cut if space < 0 else min(space + 1, start)
        lines -= _wrapped(line, width)
        start -= len(line)
    return start


def count_lines(text: str, width: int = LINE_WIDTH) -> int:
    """How many lines a text takes on the page when wrapped at `width` characters."""
    return sum(_wrapped(line, width) for line in text.splitlines())


def _wrapped(line: str, width: int) -> int:
    return max(1, -(-len(line) // width))


def anchors(sample_ids: Iterable[str]) -> list[str]:
    """One distinct HTML id for each sample id, with ASCII letters, digits, "_" and "-" only."""
    taken: set[str] = set()
    found = []
    for sample_id in sample_ids:
        base = "sample-" + re.sub(r"[^A-Za-z0-9_-]+", "-", sample_id).strip("-")
        anchor, copy = base, 1
        while anchor in taken:
            copy += 1
            anchor = f"{base}--{copy}"
        taken.add(anchor)
        found.append(anchor)
    return found


def name_parts(name: str) -> list[str]:
    """Split a name where it may break: after "_" and "-", and after a "." that is not in a number."""
    return re.split(r"(?<=[_-])(?=.)|(?<=\.)(?=\D)", name)


def broken(name: str, width: int = 16) -> list[str]:
    """Break a name into lines of `width` characters at most, where it may break."""
    first, *others = name_parts(name)
    lines = [first]
    for part in others:
        if len(lines[-1]) + len(part) > width:
            lines.append(part)
        else:
            lines[-1] += part
    return lines


def shortened(name: str, width: int) -> str:
    """Shorten a name to `width` characters; its middle goes, since versions and sizes stand at the ends."""
    if len(name) <= width:
        return name
    head = width // 2
    return f"{name[:head]}…{name[len(name) - (width - head - 1) :]}"


def pretty_json(value: object) -> str:
    """A JSON value indented for reading, keys in their given order."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
