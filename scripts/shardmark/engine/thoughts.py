"""Positions of a reasoning model's thoughts among the tokens that it writes.

Texts have no special tokens, which mark thoughts in some models: their places are stored beside the text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from shardmark.engine.stops import TextStream
from shardmark.records.prediction import Mark
from shardmark.texts.thoughts import QUOTES, Tags, mark_pattern, marks_among, thoughts_in

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


FENCE = re.compile("```|~~~")
MOST_EXAMINED = 100
"How often the text of a row is examined as a whole. After that, as when a model repeats itself, each mark counts."


@lru_cache(maxsize=8)
def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> Mapping[int, str]:
    """The tokens that are left out of texts, by id."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {number: token.content for number, token in added.items() if token.special}


@lru_cache(maxsize=8)
def marking_tokens(tokenizer: "PreTrainedTokenizerBase", tags: Tags | None = None) -> Mapping[int, str]:
    """The special tokens that mark thoughts, by id."""
    special = special_tokens(tokenizer)
    marks = marks_among(special.values(), tags)
    return {number: text for number, text in special.items() if text in marks}


def marks_in(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int], tags: Tags | None = None) -> list[Mark]:
    """The special tokens that mark thoughts among some tokens, with their places in the text."""
    marking = marking_tokens(tokenizer, tags)
    if marking.keys().isdisjoint(tokens):
        return []
    stream, found, begin, place = TextStream(tokenizer), [], 0, 0
    for number, token in enumerate(tokens):
        if token in marking:
            place += len(stream.push(*tokens[begin : number + 1])[0])
            begin = number + 1
            found.append((place, marking[token]))
    return found


def thought_tokens(
    tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int], opened: str = "", tags: Tags | None = None
) -> int:
    """The number of tokens that are thoughts, including marks; `opened` is the mark at the end of the prompt."""
    left_out = special_tokens(tokenizer).keys() - marking_tokens(tokenizer, tags).keys()
    kept = [number for number, token in enumerate(tokens) if token not in left_out]

    def text(count: int) -> str:
        return str(tokenizer.decode([tokens[number] for number in kept[:count]], skip_special_tokens=False))

    found = thoughts_in(opened + text(len(kept)), tags=tags)
    if found.unfinished:
        return len(tokens)
    end = found.end - len(opened)
    if end <= 0:
        return 0
    low, high = 1, len(kept)  # the fewest tokens whose text reaches the end
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(text(middle)) >= end else (middle + 1, high)
    return kept[low - 1] + 1


@dataclass(frozen=True)
class ThoughtLimits:
    """Marks and limits of a row's thoughts."""

    tags: Tags
    closing: tuple[int, ...]
    "The tokens of the closing mark."
    budget: int | None = None
    "Tokens of thoughts after which the closing mark is written."
    free: int = 0
    "Tokens up to the end of the last thought that do not count towards the limit of new tokens."


class ThoughtWatch:
    """Follows whether a row is within a thought, from its tokens as they come."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", limits: ThoughtLimits, opened: bool) -> None:
        """`opened` says whether the prompt has begun a thought.

        Which marks count is decided by `thoughts_in`, as for the whole answer later: a mark in quotes, say, is only
        mentioned. So the text is examined again with each mark, and with each end of a block of code.
        """
        self.limits = limits
        self.thinking = opened
        self.length = 0
        "Tokens up to the end of the last thought, or all of them within one."
        self.spent = 0
        "Tokens within thoughts, without opening marks."
        self._stream = TextStream(tokenizer, special=True)
        self._text = [limits.tags[0]] if opened else []
        self._end = self._count = 0
        self._tail, self._keep = "", max(1, max(map(len, limits.tags)) - 1)
        self._examined = 0
        self._unsure = False
        "Whether the next character decides if the last mark is in quotes."

    def push(self, token: int) -> None:
        """Take note of the next token."""
        self._count += 1
        self.spent += self.thinking
        new = self._stream.push(token)[0]
        self._text.append(new)
        recent, before = self._tail + new, self._end
        marks = [*mark_pattern(None, self.limits.tags).finditer(recent)]
        fences = [*FENCE.finditer(recent)]
        if marks or fences or (new and self._unsure):
            if self._examined < MOST_EXAMINED:
                self._examine()
            elif marks:
                self.thinking = not marks[-1]["closes"]
                self._end += not self.thinking
        end = max((match.end() for match in [*marks, *fences]), default=0)
        self._tail = recent[max(end, len(recent) - self._keep) :]
        if self.thinking or self._end > before:
            self.length = self._count

    def _examine(self) -> None:
        """Find the thoughts in the text so far."""
        self._examined += 1
        text = "".join(self._text)
        self._text = [text]
        *_, last = [None, *mark_pattern(None, self.limits.tags).finditer(text)]
        quote = text[last.start() - 1 : last.start()] if last and last.end() == len(text) else ""
        self._unsure = bool(quote) and quote in QUOTES
        found = thoughts_in(text[: last.start()] if last and self._unsure else text, tags=self.limits.tags)
        self.thinking, self._end = found.unfinished, found.end

    def close(self) -> None:
        """Note that the closing mark has been written."""
        self.thinking = False

    @property
    def exhausted(self) -> bool:
        """Whether it is time to end the thought."""
        return self.thinking and self.limits.budget is not None and self.spent >= self.limits.budget

    @property
    def unused(self) -> int:
        """Tokens left for thoughts alone."""
        return max(0, self.limits.free - self.length)
