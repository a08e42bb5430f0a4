"""The thoughts that a reasoning model writes before it answers, and the marks around them.

Chat templates of DeepSeek-R1, QwQ and others open the thought themselves, so that its opening mark is in the prompt,
and the output has only the closing one, or none if the thought is cut.
"""

import re
from bisect import bisect
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

Tags = tuple[str, ...]
"The marks that open and close a model's thoughts; and one that ends its answer, if there is any."
TAGS = (
    *("think", "thinking", "thought", "reasoning", "reason", "seed:think", "mm:think"),
    *("ifm|think", "ifm|think_fast", "ifm|think_faster"),
)
"Names of the tags <...> and [...] around thoughts."
SUFFIX = r"(?::[0-9a-f]{6,10})?"
"What each of Hunyuan's later models adds to the name."
OTHER_MARKS = (
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<unused94>", "<unused95>"),
    ("<|channel>", "<channel|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
)
CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<\n]{0,60}<\|message\|>")
"gpt-oss writes in channels: analysis, commentary, and final for the answer."
BARE_CHANNEL = re.compile(r"\s*analysis(?=[^\s\w]|[A-Z0-9]|[^\x00-\x7f])")
"The same in a text without its special tokens: `analysisWe need ...assistantfinalParis`."
BARE_FINAL = "assistantfinal"
HARMONY = ("<|channel|>", "<|message|>", "<|start|>", "<|end|>")
"The special tokens that mark its channels; the first one shows that a tokenizer has them."
HARMONY_TAGS = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>")
KNOWN_TAGS = (
    *((f"<{name}>", f"</{name}>") for name in TAGS),
    *((f"[{name}]", f"[/{name}]") for name in map(str.upper, TAGS)),
    *OTHER_MARKS,
)
"Marks that models use, in their spelling."
TO_NAME: tuple[Tags, ...] = (
    ("Here is my thought process:", "Here is my response:"),
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|><|open|>response<|sep|>", "<|close|>response<|sep|>"),
)
"Marks of Granite 3.2, Apriel and Kimi K3. They count only if a model's file names them: others may write so, too."
CODE = re.compile(r"^[ \t]*(```|~~~)[^\n]*$", re.MULTILINE)
QUOTES = "`'\"“”‘’「」«»"


class Thoughts(NamedTuple):
    """The thoughts in a text."""

    end: int
    "The index after the last thought that ends, including its closing mark; 0 if none does."
    unfinished: bool
    "Whether the text ends within a thought."
    stop: int
    "The index where the answer ends."


class Mark(NamedTuple):
    """A mark that opens or closes a thought."""

    start: int
    end: int
    closes: bool


def without_thoughts(text: str, tag: str | None = None, tags: Tags | None = None, bare: bool = False) -> str | None:
    """The text after the last thought; None if there is none, or if the last thought does not end.

    `tag` names the tag, or `tags` are the marks; without either, all known ones count. A closing mark alone ends a
    thought that the prompt has opened. A mark in quotes is only mentioned, and so is one in a block of code after the
    first thought. `bare`: gpt-oss's channels are recognized without their special tokens, too.
    """
    found = thoughts_in(text, tag, tags, bare)
    if found.unfinished:
        return None
    answer = text[found.end : found.stop]
    return (answer if not found.end and answer.strip() else answer.strip()) or None


def thoughts_in(text: str, tag: str | None = None, tags: Tags | None = None, bare: bool = False) -> Thoughts:
    """Find the thoughts in a text by the rules of `without_thoughts`."""
    if tag is None and tags is None:
        channels = list(CHANNEL.finditer(text))
        if channels:
            last = channels[-1]
            stop = text.find("<|", last.end())
            return Thoughts(last.end(), last.group(1) != "final", len(text) if stop < 0 else stop)
        if bare and BARE_CHANNEL.match(text):
            final = text.rfind(BARE_FINAL)
            return Thoughts(final + len(BARE_FINAL) if final >= 0 else 0, final < 0, len(text))
    marks = _marks(text, tag, tags)
    end = max((mark.end for mark in marks if mark.closes), default=0)
    stop = text.find(tags[2], end) if tags and len(tags) > 2 else -1
    return Thoughts(end, any(not mark.closes and mark.start >= end for mark in marks), len(text) if stop < 0 else stop)


def marks_among(tokens: Iterable[str], tags: Tags | None = None) -> set[str]:
    """The tokens of a tokenizer that mark thoughts, or are a part of a model's own `tags`."""
    tokens = set(tokens)
    if tags is not None:
        return {token for token in tokens if token and any(token in tag for tag in tags)}
    channels = set(HARMONY) if HARMONY[0] in tokens else set()
    return {token for token in tokens if token in channels or mark_pattern(None).fullmatch(token)}


def known_tags(texts: Iterable[str]) -> Tags | None:
    """The marks of thoughts in the first text that has any: a model's chat template, say, or one of its tokens."""
    for text in texts:
        if tags_to_name(text):
            return None
        if HARMONY[0] in text:
            return HARMONY_TAGS
        if found := next((tags for tags in KNOWN_TAGS if any(mark in text for mark in tags)), None):
            return found
        if suffixed := re.search(rf"<(think{SUFFIX})>", text):
            return f"<{suffixed[1]}>", f"</{suffixed[1]}>"
    return None


def tags_to_name(text: str) -> Tags | None:
    """The marks in a chat template or a prompt that count only if the model's file names them."""
    return next((tags for tags in TO_NAME if any(mark in text for mark in tags[:2])), None)


def opened_mark(prompt: str, tags: Tags | None = None) -> str:
    """The mark of a thought at the end of a prompt, for the model to continue; an empty text if there is none."""
    end = prompt[-200:].rstrip()
    if tags is None and (channels := list(CHANNEL.finditer(end))):
        last = channels[-1]
        return last[0] if last.end() == len(end) and last[1] != "final" else ""
    marks = _marks(end, None, tags)
    return end[marks[-1].start :] if marks and not marks[-1].closes and marks[-1].end == len(end) else ""


def mark_left_open(prompt: str, begun: str, tags: Tags | None = None) -> str:
    """The mark of a thought in which the model is to continue, after a prompt that ends with the answer's beginning."""
    if mark := opened_mark(prompt, tags):
        return mark
    if marks := _marks(begun, None, tags):
        return "" if marks[-1].closes else begun[marks[-1].start : marks[-1].end]
    return opened_mark(prompt.rstrip().removesuffix(begun.strip()), tags)


def goes_on_with_thought(text: str) -> bool:
    """Whether a text ends a thought that it has not begun, but its prompt has."""
    marks = _marks(text, None)
    return bool(marks) and marks[0].closes


def _marks(text: str, tag: str | None, tags: Tags | None = None) -> list[Mark]:
    """The marks in a text that are not only mentioned."""
    found: list[Mark] = []
    code: list[tuple[int, int]] | None = None
    for match in mark_pattern(tag, tags).finditer(text):
        before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
        if before and after and before in QUOTES and after in QUOTES:
            continue
        if code is not None and (place := bisect(code, (match.start(), 0)) - 1) >= 0 and match.start() < code[place][1]:
            continue
        if code is None and match["closes"]:
            code = _code(text, match.end())
        found.append(Mark(match.start(), match.end(), bool(match["closes"])))
    return found


@lru_cache
def mark_pattern(tag: str | None, tags: Tags | None = None) -> re.Pattern[str]:
    if tags is not None:  # a model may take a part of one for the other, as <|im_start|> and <|im_start|>answer
        first, last = (tag.strip() or tag for tag in tags[:2])  # white space around a mark may differ
        opening, closing = re.escape(first), f"(?P<closes>{re.escape(last)})"
        return re.compile(f"{closing}|{opening}" if len(last) > len(first) else f"{opening}|{closing}")
    names = "|".join(map(re.escape, TAGS if tag is None else [tag]))
    opens = [rf"<(?:{names}){SUFFIX}(?:\s[^<>\n]{{0,100}})?>", rf"\[(?:{names})\]"]
    closes = [rf"</(?:{names}){SUFFIX}\s?>", rf"\[/(?:{names})\]"]
    if tag is None:
        opens += [re.escape(mark) for mark, _ in OTHER_MARKS]
        closes += [re.escape(mark) for _, mark in OTHER_MARKS]
    return re.compile(f"(?P<closes>{'|'.join(closes)})|{'|'.join(opens)}", re.IGNORECASE)


def _code(text: str, start: int) -> list[tuple[int, int]]:
    """The ranges of blocks of code from `start` on."""
    blocks: list[tuple[int, int]] = []
    opening: re.Match[str] | None = None
    for fence in CODE.finditer(text, start):
        if opening is None:
            opening = fence
        elif fence.group(1) == opening.group(1) and not fence.group().strip().strip("`~"):
            blocks.append((opening.start(), fence.end()))
            opening = None
    return blocks
