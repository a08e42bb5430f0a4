"""From text to tokens, by the rules of lm-evaluation-harness, so that log-likelihoods agree with it."""

import re
from dataclasses import dataclass
from typing import Any

LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class ScoredRow:
    """A model input and the tokens whose log-likelihood is wanted: its last `len(scored)` outputs predict them."""

    inputs: list[int]
    scored: list[int]
    cut: int
    "Tokens that were dropped on the left because the window is too short."


def prefix_token(tokenizer: Any) -> int:
    """The token an empty context is replaced by: BOS, else EOS. Raises ValueError if the tokenizer has neither."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ValueError("the tokenizer has neither a BOS nor an EOS token to stand for an empty context")


def well_formed(text: str) -> str:
    """The text with U+FFFD for each half of an emoji, as in cut-off rows: neither tokenizers nor Arrow take one."""
    return LONE_SURROGATE.sub("\ufffd", text)


def encode(tokenizer: Any, text: str, **kwargs: Any) -> list[int]:
    """Tokens of a text, special ones included unless kwargs say otherwise."""
    return list(tokenizer.encode(well_formed(text), **kwargs))


def encode_pair(tokenizer: Any, context: str, continuation: str, **kwargs: Any) -> tuple[list[int], list[int]]:
    """Tokens of the context and of the continuation after it, special ones included unless kwargs say otherwise.

    The context's trailing white space belongs to the continuation, and both are tokenized as one text, because a
    token may span their border. An empty context is the prefix token, unless the continuation begins with it.
    """
    if not context:
        prefix = prefix_token(tokenizer)
        tokens = encode(tokenizer, continuation, add_special_tokens=False)
        return (tokens[:1], tokens[1:]) if tokens[:1] == [prefix] else ([prefix], tokens)
    stripped = context.rstrip()
    if not stripped:  # white space alone: as an empty context, its characters are scored
        return encode_pair(tokenizer, "", context + continuation)
    continuation = context[len(stripped) :] + continuation
    head = encode(tokenizer, stripped, **kwargs)
    tail = encode(tokenizer, stripped + continuation, **kwargs)[len(head) :]
    return head or [prefix_token(tokenizer)], tail  # a tokenizer may drop every character it does not know


def fit_window(context: list[int], continuation: list[int], window: int) -> ScoredRow:
    """The rightmost `window` tokens of input: `(context + continuation)[-(window + 1):][:-1]`."""
    whole = (context + continuation)[-(window + 1) :]
    inputs = whole[:-1]
    return ScoredRow(inputs, continuation[-len(inputs) :], len(context) + len(continuation) - len(whole))


def rolling_windows(prefix: int, tokens: list[int], window: int) -> list[ScoredRow]:
    """Rows that score each token of a text once, by the rules of lm-evaluation-harness's loglikelihood_rolling.

    The first window begins with the prefix token; in the others one token of context stands before those that are
    scored. The last window is filled with as much context as it has room for.
    """
    first = tokens[:window]
    rows = [ScoredRow([prefix, *first[:-1]], first, 0)] if tokens else []
    for start in range(window, len(tokens), window):
        end = min(start + window, len(tokens))
        rows.append(ScoredRow(tokens[end - window - 1 : end - 1], tokens[start:end], 0))
    return rows
