"""Text made safe and legible for a page: control characters, long names, JSON."""

import json
import re
from typing import Any

from shardmark.printable import without_surrogates

# Code points that UTF-8 or XML cannot represent become U+FFFD; other control characters become control pictures.
_UNENCODABLE = dict.fromkeys([*range(0xD800, 0xE000), 0xFFFE, 0xFFFF], 0xFFFD)
_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
_REPLACEMENTS = _UNENCODABLE | _CONTROLS
_HIDDEN = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
"Marks of direction and characters without width, as in templates/text.js."


def clean(value: object) -> Any:
    """A JSON value with every string, keys included, safe to write as UTF-8, HTML and XML.

    Surrogate pairs that a model left in two halves are joined; unpaired ones become U+FFFD, and control characters
    other than tab and newline become visible control pictures (NUL: U+2400).
    """
    if isinstance(value, str):
        return without_surrogates(value).translate(_REPLACEMENTS)
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    return value


def visible(text: str) -> str:
    """The text with characters that are hidden, or that change the order of others, spelt as in `⟨U+202E⟩`."""
    return text if text.isascii() else _HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def name_parts(name: str) -> list[str]:
    """Split a name where it may break: after "_" and "-", and after a "." that is not in a number."""
    return re.split(r"(?<=[_-])(?=.)|(?<=\.)(?=\D)", name)


def broken(name: str, width: int = 16) -> list[str]:
    """Break a name into lines of at most `width` characters, where it may break."""
    first, *others = name_parts(name)
    lines = [first]
    for part in others:
        if len(lines[-1]) + len(part) > width:
            lines.append(part)
        else:
            lines[-1] += part
    return lines


def shortened(name: str, width: int) -> str:
    """Shorten a name to `width` characters; its middle is cut, since versions and sizes are at the ends."""
    if len(name) <= width:
        return name
    head = width // 2
    return f"{name[:head]}…{name[len(name) - (width - head - 1) :]}"


def pretty_json(value: object) -> str:
    """A JSON value indented for reading, keys in their given order."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def as_text(value: object) -> str:
    """A text as it is and any other JSON value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
