"""The filter unquote."""

from typing import ClassVar, Literal

from shardmark.filters.base import TextFilter


class Unquote(TextFilter):
    """Remove white space and quotes around the answer."""

    protocol: ClassVar[int] = 1
    name: Literal["unquote"]

    def find(self, text: str) -> str:
        """Remove one pair of quotes, or a quote at one end if its line has an odd number of them.

        So the last quote of `return 'a'` stays.
        """
        text = text.strip()
        for quote in ("'''", '"""', "'", '"'):
            if len(text) >= 2 * len(quote) and text.startswith(quote) and text.endswith(quote):
                return text[len(quote) : -len(quote)]
        for quote in ("'", '"'):
            if text.startswith(quote) and text.partition("\n")[0].count(quote) % 2:
                return text[1:]
            if text.endswith(quote) and text.rpartition("\n")[2].count(quote) % 2:
                return text[:-1]
        return text
