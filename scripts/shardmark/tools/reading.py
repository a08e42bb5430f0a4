"""How models read a request: the text in their templates' wording, special tokens, what is cut, what is scored."""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator

from shardmark.engine.tokens import Alone
from shardmark.records.request import Context
from shardmark.tasks.chat_templates import WordingError
from shardmark.tools.counting import Counter, Read, Tokenizer
from shardmark.tools.visible import visible

MARGIN = "  | "
"Precedes each line of a text, so that its beginning and its empty lines are visible."
WIDTH = 110
"The most characters of a line of tokens, unless a single token is longer."
LAST = 5
"How many of a context's last tokens are listed before those that are scored."
SHOWN = 40
"The most characters shown of the beginning of a text."


def read_as(
    counters: Iterable[Counter], context: Context, continuation: Context | None, new_tokens: int, tokens: bool
) -> Iterator[str]:
    """Lines on how each model reads a prompt, or a continuation after its context; models that agree share lines.

    `new_tokens` are to be written after it; `tokens` adds their ids and texts. Models whose tokenizer is not here are
    left out.
    """
    named: dict[tuple[str, ...], list[str]] = {}
    for counter in counters:
        if lines := tuple(_lines(counter, context, continuation, new_tokens, tokens)):
            named.setdefault(lines, []).append(counter.name)
    for lines, names in named.items():
        yield f"as {', '.join(names)} read{'s' * (len(names) == 1)} it:"
        yield from (f"  {line}" for line in lines)


def _lines(
    counter: Counter, context: Context, continuation: Context | None, new_tokens: int, with_tokens: bool
) -> Iterator[str]:
    try:
        read = counter.read(context, continuation)
        text = "" if isinstance(context, str) or counter.tokenizer is None else counter.text(context)
    except WordingError as error:
        yield f"not at all: {error}; fix: {error.fix}"
        return
    if read is None or counter.tokenizer is None:
        return
    answer = counter.answer_tokens(new_tokens) + counter.thought_tokens * bool(new_tokens)
    if counter.window and answer >= counter.window:
        what = f"{answer:,} new tokens leave no room for a prompt in the window of {counter.window:,}"
        yield f"not at all: {what}; fix: lower max_out_len or raise max_seq_len"
        return
    if text and continuation is None:
        yield from (MARGIN + line for line in visible(text).split("\n"))
    if continuation is None:
        yield from _special(counter.tokenizer, read)
    else:
        alone = ", by itself: a token spans its beginning and the prompt's end" * isinstance(read.scored, Alone)
        scored = counter.tokenizer.text(read.context, read.scored)
        yield f"scored: {scored!r} ({len(read.scored)} token{'s' * (len(read.scored) != 1)}{alone})"
    cut = _cut(read, counter.window, answer)
    if cut:
        kept = counter.tokenizer.text(read.context[:cut], read.context[cut:])[:SHOWN]
        room = f"the window of {counter.window:,} tokens" + f", {answer:,} of them for the answer," * bool(answer)
        yield f"cut: {room} leaves out its first {cut:,} tokens; it begins with {kept!r}"
    if with_tokens:
        parts = {"cut": read.context[:cut], "read": read.context[cut:]}
        if continuation is not None:  # the context has been listed as a prompt
            parts = {"after": read.context[-LAST:], "scored": read.scored}
        for name, numbers in parts.items():
            yield from _listed(name, [f"{number} {counter.tokenizer.piece(number)!r}" for number in numbers])


def _special(tokenizer: Tokenizer, read: Read) -> Iterator[str]:
    """The special tokens in a prompt, and how often they occur: the rest is text, whatever it looks like."""
    tally = Tally(number for number in read.context if number in tokenizer.special)
    if tally:
        named = (tokenizer.piece(number) + f" ({count} times)" * (count > 1) for number, count in tally.items())
        yield f"special tokens: {', '.join(named)}; the first token is {tokenizer.piece(read.context[0])!r}"


def _cut(read: Read, window: int | None, answer: int) -> int:
    """How many tokens the window has no room for: as the engine's fit_window, or what it leaves for an answer."""
    if window is None:
        return 0
    room = window - len(read.scored) + 1 if read.scored else window - answer
    return min(len(read.context), max(0, len(read.context) - room))


def _listed(name: str, tokens: list[str]) -> Iterator[str]:
    """Tokens in lines, the first of which begins with a name."""
    line = ""
    for token in tokens:
        if line and len(line) + len(token) > WIDTH:
            yield f"{name + ':' if name else '':8}{line}"
            name, line = "", ""
        line += f"{', ' * bool(line)}{token}"
    if line:
        yield f"{name + ':' if name else '':8}{line}"
