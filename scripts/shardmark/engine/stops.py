"""What a row has written so far, and whether a stop string is in it, looking at the newest tokens only."""

from collections.abc import Sequence
from typing import Any

INCOMPLETE = "\ufffd"
"What decoders write for the bytes of a character that is not whole yet."
PATIENCE = 8
"After so many tokens, bytes that still make no character never will."


class TextStream:
    """Text from tokens that come one at a time.

    Tokens are decoded together with those that made the last piece of text: a decoder may drop a space at the start,
    or join the bytes of a character, or need its neighbour. What two decodings with the same beginning differ in is
    new. The end of a text that is no whole character yet is held back, and counted as pending.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.tokens: list[int] = []
        self._known = ""
        "The text of the first `_read` of the tokens kept here."
        self._read = 0

    def push(self, token: int) -> tuple[str, str]:
        """The text that this token completes, and what is pending after it without the incomplete characters."""
        self.tokens.append(token)
        whole = self.tokenizer.decode(self.tokens, skip_special_tokens=True)
        stable = whole.rstrip(INCOMPLETE)
        waiting = len(stable) < len(whole) and len(self.tokens) - self._read < PATIENCE
        if waiting:
            return "", stable[len(self._known) :]
        new = whole[len(self._known) :]
        if new:
            self.tokens = self.tokens[self._read :]
            self._read = len(self.tokens)
            self._known = self.tokenizer.decode(self.tokens, skip_special_tokens=True)
        return new, ""


class StopFinder:
    """Whether one of some strings has appeared in what a row has written."""

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self.stop = list(stop)
        self.stream = TextStream(tokenizer)
        self._longest = max(map(len, self.stop), default=1)
        self._tail = ""

    def push(self, token: int) -> bool:
        """Whether a stop string has come to its end with this token."""
        if not self.stop:
            return False
        new, pending = self.stream.push(token)
        text = self._tail + new
        self._tail = text[max(0, len(text) - self._longest + 1) :]
        return any(string in text + pending for string in self.stop)


def text_and_end(tokenizer: Any, tokens: Sequence[int], stop: Sequence[str]) -> tuple[str, bool]:
    """The text of tokens before the first stop string in it, and whether there is one."""
    text = tokenizer.decode(list(tokens), skip_special_tokens=True)
    found = [place for string in stop if (place := text.find(string)) >= 0]
    return (text[: min(found)], True) if found else (text, False)
