"""The boxes around answers in LaTeX: `\\boxed{42}`."""

import re
from collections.abc import Iterator

BOX = re.compile(r"\\(?:f?boxed|fbox)\s?\{")


def boxes(text: str) -> Iterator[str]:
    """The contents of all boxes in order; of a box that never closes, nothing."""
    for box in BOX.finditer(text):
        depth = 1
        for end in range(box.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if not depth:
                yield text[box.end() : end].strip()
                break
