"""The boxes around answers in LaTeX: `\\boxed{42}`."""

import re

BRACE = re.compile(r"\\[{}]|(?P<box>\\(?:f?boxed|fbox)\s?)?(?P<opens>\{)|\}")
"An escaped brace, one that opens, perhaps a box, or one that closes."


def boxes(text: str) -> list[str]:
    """The contents of all boxes in order; of a box that never closes, nothing."""
    open_braces: list[re.Match[str]] = []
    found: list[tuple[int, str]] = []
    for brace in BRACE.finditer(text):
        if brace["opens"]:
            open_braces.append(brace)
        elif brace[0] == "}" and open_braces and (opening := open_braces.pop())["box"]:
            found.append((opening.start(), text[opening.end() : brace.start()].strip()))
    return [content for _, content in sorted(found)]
