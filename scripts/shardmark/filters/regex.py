"""The filter regex."""

import re
from itertools import islice
from typing import ClassVar, Literal

from shardmark.filters.base import TextFilter
from shardmark.settings import Pattern


class RegexFilter(TextFilter):
    """A match of a regular expression: its first group that took part, or the whole match if it has no groups."""

    protocol: ClassVar[int] = 1
    bounded_by: ClassVar[str] = "pattern"
    name: Literal["regex"]
    pattern: Pattern
    "Regular expression in Python's syntax; `(?i)` at the start ignores case."
    select: int = 0
    "Which match: 0 for the first, -1 for the last."
    fallback: str | None = None
    "The answer if nothing matches; without it, there is none."

    def find(self, text: str) -> str | None:
        found = re.finditer(self.pattern, text)
        matches = list(found if self.select < 0 else islice(found, self.select + 1))  # each may scan all of a text
        if not -len(matches) <= self.select < len(matches):
            return self.fallback
        match = matches[self.select]
        if not match.re.groups:
            return match.group()
        return next((group for group in match.groups() if group is not None), self.fallback)
