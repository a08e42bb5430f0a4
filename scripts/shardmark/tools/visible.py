"""Show the characters of a text that a terminal hides, or would obey."""

from shardmark.printable import escaped, printable

SPACE, TAB, NEWLINE = "␠", "⇥", "⏎"
LEGEND = {SPACE: "a space at the end of a line or at the beginning of a text", TAB: "a tab", NEWLINE: "a newline"}
"The meaning of the symbols; newlines are shown only at the end of a text."


def visible(text: str) -> str:
    """The text with characters made visible that matter to a model but are easily overlooked, line by line.

    White space at the ends of lines, and before and after the whole text, becomes symbols (LEGEND). Characters that are
    not printable, such as an escape sequence, half of an emoji or a byte order mark, are shown as Python would write
    them.
    """
    lines = text.split("\n")
    ended = len(lines) > 1 and not lines[-1]
    shown = [_line(line, first=number == 0) for number, line in enumerate(lines[:-1] if ended else lines)]
    return "\n".join(shown) + NEWLINE * ended


def _line(line: str, first: bool) -> str:
    body = line.rstrip(" ")
    tail = len(line) - len(body)
    head = len(body) - len(body.lstrip(" ")) if first else 0
    return SPACE * head + "".join(map(_character, body[head:])) + SPACE * tail


def _character(character: str) -> str:
    if character == "\t":
        return TAB
    return escaped(character) if character != " " and character.isspace() else printable(character)
