"""Text that a row has written so far, and whether it has a stop string, looking at the newest tokens only."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from shardmark.plan.outdated_answers import may_meet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INCOMPLETE = "\ufffd"
"The character that decoders write for the bytes of an incomplete character."
PATIENCE = 8
"The number of tokens after which bytes that still make no character never will."


class TextStream:
    """Text from tokens that come one at a time.

    Tokens are decoded together with those of the last piece of text, because a decoder may drop a space at the start,
    join the bytes of a character, or need neighbouring tokens. The difference between two decodings with the same
    beginning is the new text. An incomplete character at the end of a text is held back, and counted as pending.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", special: bool = False) -> None:
        """`special` says whether special tokens are part of the text."""
        self.tokenizer = tokenizer
        self.special = special
        self.tokens: list[int] = []
        self._known = ""
        "The text of the first `_read` of the tokens kept here."
        self._read = 0

    def push(self, *tokens: int) -> tuple[str, str]:
        """The text that these tokens complete, and the pending text after it, without incomplete characters."""
        self.tokens.extend(tokens)
        whole = self._decode()
        stable = whole.rstrip(INCOMPLETE)
        waiting = len(stable) < len(whole) and len(self.tokens) - self._read < PATIENCE
        if waiting:
            return "", stable[len(self._known) :]
        new = whole[len(self._known) :]
        if new:
            self.tokens = self.tokens[self._read :]
            self._read = len(self.tokens)
            self._known = self._decode()
        return new, ""

    def _decode(self) -> str:
        return str(self.tokenizer.decode(self.tokens, skip_special_tokens=not self.special))


class StopFinder:
    """Looks for stop strings in the text that a row has written.

    Answers are texts without special tokens, where a stop string such as <|im_end|> would never be found. So if a stop
    string may overlap a special token, the text with special tokens is searched as well.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", stop: Sequence[str]) -> None:
        self.stop = list(stop)
        self._longest = max(map(len, self.stop), default=1)
        kinds = [False, True] if meets_special(tokenizer, tuple(self.stop)) else [False]
        self._streams = [TextStream(tokenizer, special) for special in kinds]
        self._tails = ["" for _ in kinds]

    def push(self, token: int) -> bool:
        """Whether a stop string is complete with this token."""
        if not self.stop:
            return False
        found = [self._push(number, token) for number in range(len(self._streams))]  # each stream must get the token
        return any(found)

    def _push(self, number: int, token: int) -> bool:
        new, pending = self._streams[number].push(token)
        text = self._tails[number] + new
        self._tails[number] = text[max(0, len(text) - self._longest + 1) :]
        return any(string in text + pending for string in self.stop)


@lru_cache(maxsize=1024)
def meets_special(tokenizer: "PreTrainedTokenizerBase", stop: tuple[str, ...]) -> bool:
    """Whether a stop string may be found in special tokens, or in such a token and the text next to it."""
    return any(may_meet(string, token) for string in stop for token in _special(tokenizer))


@lru_cache(maxsize=8)
def _special(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, ...]:
    """The texts of the tokens that are left out of answers."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    marked = [token.content for token in added if token.special]
    return tuple(dict.fromkeys([*marked, *getattr(tokenizer, "all_special_tokens", ())]))


def text_and_end(
    tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int], stop: Sequence[str], after: int = 0
) -> tuple[str, bool]:
    """The text of tokens before the first stop string in it, and whether there is one there or among special tokens.

    No stop string is looked for in the first `after` tokens. If a stop string has special tokens, its other characters
    stay in the text, as in lm-evaluation-harness.
    """
    text = str(tokenizer.decode(list(tokens), skip_special_tokens=True))
    begin = len(str(tokenizer.decode(list(tokens[:after]), skip_special_tokens=True))) if after and stop else 0
    found = [place for string in stop if (place := text.find(string, begin)) >= 0]
    if found or not stop or not meets_special(tokenizer, tuple(stop)):
        return (text[: min(found)], True) if found else (text, False)
    whole = str(tokenizer.decode(list(tokens[after:]), skip_special_tokens=False))
    return text, any(string in whole for string in stop)
