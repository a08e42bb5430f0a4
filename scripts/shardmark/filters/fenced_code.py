"""The filter fenced_code: code in a model's answer."""

import re
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from shardmark.filters.base import TextFilter

FENCE = re.compile(r"([ \t]*(?:>[ \t]*)?)(`{3,}|~{3,})([^\n]*)")
LATE_FENCE = re.compile(r"()(`{3,})([ \t]{0,9}[\w+{.-]{0,30}\}?[ \t]{0,9})\r?$")
LABEL = re.compile(r"[ \t]*\{?\.?([\w+#-]+)(?=[\s}:,]|$)")
ONE_LINE = re.compile(r"(`{1,9})(?:(?:python3?|py)\b(?=\s))?\s*([^`\n]+)\1", re.IGNORECASE)
TAGGED = re.compile(r"\[PYTHON\]\n?(.*?)(?:\[/PYTHON\]|\Z)", re.DOTALL)
PYTHON = {"python", "python3", "py", "py3", "python2", "ipython"}
CODE_LINE = re.compile(
    r"(?:[ ]{2,}|\t)\S|(?:async\s+)?(?:def|class)\s+\w|(?:from|import)\s+\w|(?:return|raise|yield|print|pass)\b|@\w|#"
    r"|(?:if|for|while|with|elif|else|try|except)\b[^\n]*:\s*(?:#|$)|[\w.\[\]]+\s?[-+*/]?=[^=]|[)\]}\"']"
)
PROSE_LINE = re.compile(r"\s*(?:\d+[.)]|[-*])?\s*[A-Z][\w']*,?(?: [\w'`]+){2}")


class Block(NamedTuple):
    """Lines of code with the label of their fence."""

    label: str
    lines: list[str]

    @property
    def rank(self) -> int:
        """The block's rank: 0 for Python, then come blocks without a label, those of other languages, and sessions."""
        first = next((line for line in self.lines if line.strip()), "").lstrip()
        if first.startswith((">>>", "In [")):
            return 3
        return 0 if self.label in PYTHON else 2 if self.label else 1


class Fence(NamedTuple):
    """The parts of a fence: the groups of both patterns."""

    indent: str
    marks: str
    info: str


class Opening(NamedTuple):
    """A fence that opens a block."""

    line: int
    indent: str
    marks: str
    label: str


class FencedCode(TextFilter):
    """The first block of Python between ``` lines, or all of it if there is none."""

    protocol: ClassVar[int] = 2
    name: Literal["fenced_code"]
    block: Literal["first", "last"] = Field("first", exclude_if=lambda block: block == "first")  # so that digests stay
    "Which of several blocks that are equally likely to be Python."

    def find(self, text: str) -> str:
        """The first block of Python between lines of three backticks or tildes, else the first one without a label.

        A block without text does not count beside others. Without either, it is the first block with any label; without
        a fence, the whole text. A fence that is never closed contains the rest of the text; one that only closes, as
        when the prompt has opened it, the text before it. Backticks within a line are not a fence.
        """
        found = _blocks(text.split("\n"))
        blocks = [block for block in found if any(map(str.strip, block.lines))] or found
        if blocks:
            ordered = blocks if self.block == "first" else reversed(blocks)
            return "\n".join(min(ordered, key=lambda block: block.rank).lines).removesuffix("\r")
        alone = ONE_LINE.fullmatch(text.strip())
        tagged = TAGGED.search(text)
        return alone.group(2) if alone else tagged.group(1).rstrip("\n") if tagged else text


def _blocks(lines: list[str]) -> list[Block]:
    found: list[Block] = []
    opening: Opening | None = None
    for number, line in enumerate(lines):
        fence = _fence(FENCE.match(line))
        if opening is None:
            new = _opening(number, line, fence)
            if new and not new.label and not found and _is_code(lines[:number]):
                found.append(Block("python", lines[:number]))  # the prompt has opened the block that this closes
            else:
                opening = new
        elif fence and _closes(opening, fence):
            label = _label(fence.info)
            if label and not opening.label and not found and _is_code(lines[: opening.line]):
                found.append(Block("python", lines[: opening.line]))  # the seeming opening was a closing one
            else:
                found.append(_block(opening, lines[opening.line + 1 : number]))
            opening = Opening(number, fence.indent, fence.marks, label) if label else None
    if opening and (not found or any(line.strip() for line in lines[opening.line + 1 :])):
        found.append(_block(opening, _up_to_marks(lines[opening.line + 1 :])))
    return found


def _fence(found: re.Match[str] | None) -> Fence | None:
    return Fence(*found.groups()) if found else None


def _opening(number: int, line: str, fence: Fence | None) -> Opening | None:
    """A fence at the beginning of a line, or one with at most a label after it at the end of a line of prose."""
    if fence is None and line.count("```") % 2:
        fence = _fence(LATE_FENCE.search(line))
    if fence is None or (fence.marks[0] in fence.info):
        return None
    return Opening(number, fence.indent, fence.marks, _label(fence.info))


def _closes(opening: Opening, fence: Fence) -> bool:
    """Whether a fence closes a block: as long, and indented by less than four more than its opening.

    A fence within a docstring may be indented by more.
    """
    deeper = len(fence.indent.expandtabs(4)) - len(opening.indent.expandtabs(4))
    return fence.marks.startswith(opening.marks) and deeper < 4


def _label(info: str) -> str:
    found = LABEL.match(info)
    words = len(info.split())
    return found.group(1).lower() if found and (words == 1 or "=" in info) else ""


def _block(opening: Opening, lines: list[str]) -> Block:
    """The lines without the indentation, or the mark of a quotation, that they share with their fence."""
    prefix = re.compile(r"[ \t]*>[ \t]?" if ">" in opening.indent else re.escape(opening.indent))
    if opening.indent and all(prefix.match(line) for line in lines if line.strip()):
        lines = [prefix.sub("", line, count=1) for line in lines]
    return Block(opening.label, lines)


def _up_to_marks(lines: list[str]) -> list[str]:
    """The lines up to one that ends in a fence, for blocks that no separate line closes."""
    for number, line in enumerate(lines):
        if line.rstrip().endswith("```"):
            return [*lines[:number], line.rstrip().rstrip("`")]
    return lines


def _is_code(lines: list[str]) -> bool:
    """Whether most lines look like Python, and none announces code."""
    written = [line for line in lines if line.strip()]
    code = [line for line in written if CODE_LINE.match(line) and not PROSE_LINE.match(line)]
    return bool(written) and 2 * len(code) > len(written)
