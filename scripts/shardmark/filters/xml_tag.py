"""The filter xml_tag."""

import re
from typing import ClassVar, Literal

from pydantic import Field

from shardmark.filters.base import TextFilter


class XmlTag(TextFilter):
    """The text inside the last `<tag>...</tag>`."""

    protocol: ClassVar[int] = 1
    name: Literal["xml_tag"]
    tag: str = Field(pattern=r"^[A-Za-z][\w.-]*$")
    "The tag's name, e.g. answer."

    def find(self, text: str) -> str | None:
        """The text inside the last pair of tags that is not empty, without white space at the ends."""
        found, begun = None, None
        for mark in re.finditer(rf"<(/?){re.escape(self.tag)}(?:\s[^<>]{{0,200}})?>", text, re.IGNORECASE):
            if not mark.group(1):
                begun = mark.end()
            elif begun is not None:
                found, begun = text[begun : mark.start()].strip() or found, None
        return found
