"""Tokens of texts, by the rules of lm-evaluation-harness, so that log-likelihoods agree with it."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from shardmark.records.prediction import Frame

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class ScoredRow:
    """A model input and the tokens whose log-likelihood is wanted: its last `len(scored)` outputs predict them."""

    inputs: list[int]
    scored: list[int]
    cut: int
    "Tokens that were dropped on the left because the window is too short."
    alone: bool = False
    "Whether the scored tokens are those of their text tokenized by itself (see Alone)."
    opened: bool = False
    "Whether the context ends within a thought."
    sent: tuple[Frame, ...] = ()
    "The frames of its request's chats."


LogLikelihood = tuple[float, bool]
"The summed log-likelihood (nats) of a row's scored tokens, and whether each of them is the argmax."


class Alone(list[int]):
    """Tokens of a continuation tokenized by itself, because one token would span all of it and the context's end."""


PROBES = ("a", "0", "the", "。", " ")
"Texts of which any tokenizer should know at least one."


def prefix_token(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The token that stands for an empty context: BOS, else EOS. Raises ValueError if the tokenizer has neither."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ValueError("the tokenizer has neither a BOS nor an EOS token to stand for an empty context")


def well_formed(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, as in cut-off rows: neither tokenizers nor Arrow accept one."""
    return LONE_SURROGATE.sub("\ufffd", text)


def encode(tokenizer: "PreTrainedTokenizerBase", text: str, **kwargs: Any) -> list[int]:
    """Tokens of a text, including special ones before it unless kwargs say otherwise, or it begins with BOS itself.

    Tokens that a tokenizer puts after a text, such as EOS, are left out: the text goes on, or its own tokens are
    scored.
    """
    if tokenizer.bos_token and text.startswith(tokenizer.bos_token):
        kwargs = {"add_special_tokens": False}
    tokens = list(tokenizer.encode(well_formed(text), **kwargs))
    after = appended(tokenizer, kwargs.get("add_special_tokens", True))
    return tokens[: -len(after)] if after and tuple(tokens[-len(after) :]) == after else tokens


@lru_cache(maxsize=16)
def appended(tokenizer: "PreTrainedTokenizerBase", special: bool = True) -> tuple[int, ...]:
    """The tokens that a tokenizer puts after each text, found as those that follow a text's own tokens."""
    marks = {getattr(tokenizer, name, None) for name in ("eos_token_id", "sep_token_id")} - {None}
    for probe in PROBES:
        whole, own = (list(tokenizer.encode(probe, add_special_tokens=added)) for added in (special, False))
        while own and own[-1] in marks:  # some tokenizers add it even without special tokens
            own.pop()
        for start in range(len(whole) - len(own) + 1) if own else ():
            if whole[start : start + len(own)] == own:
                return tuple(whole[start + len(own) :])
    return ()


def encode_pair(
    tokenizer: "PreTrainedTokenizerBase", context: str, continuation: str, **kwargs: Any
) -> tuple[list[int], list[int]]:
    """Tokens of the context and of the continuation after it, including special ones unless kwargs say otherwise.

    The context's trailing white space belongs to the continuation, and both are tokenized as one text, because a token
    may span the boundary. If such a token leaves nothing of the continuation, that is tokenized alone. An empty
    context is the prefix token, unless the continuation begins with it.
    """
    if not context:
        prefix = prefix_token(tokenizer)
        tokens = encode(tokenizer, continuation, add_special_tokens=False)
        return (tokens[:1], tokens[1:]) if tokens[:1] == [prefix] else ([prefix], tokens)
    stripped = context.rstrip()
    if not stripped:  # white space alone: its characters are scored, after an empty context
        return encode_pair(tokenizer, "", context + continuation)
    continuation = context[len(stripped) :] + continuation
    head = encode(tokenizer, stripped, **kwargs)
    tail = encode(tokenizer, stripped + continuation, **kwargs)[len(head) :]
    tail = tail or Alone(encode(tokenizer, continuation, add_special_tokens=False))
    return head or [prefix_token(tokenizer)], tail  # a tokenizer may drop every character it does not know


def fit_window(context: list[int], continuation: list[int], window: int) -> ScoredRow:
    """The rightmost `window` tokens of input: `(context + continuation)[-(window + 1):][:-1]`."""
    whole = (context + continuation)[-(window + 1) :]
    inputs = whole[:-1]
    cut = len(context) + len(continuation) - len(whole)
    return ScoredRow(inputs, continuation[-len(inputs) :], cut, isinstance(continuation, Alone))


def rolling_windows(prefix: int, tokens: list[int], window: int) -> list[ScoredRow]:
    """Rows that score each token of a text once, by the rules of lm-evaluation-harness's loglikelihood_rolling.

    The first window begins with the prefix token; the others have one token of context before the scored ones. The last
    window is filled with as much context as fits.
    """
    first = tokens[:window]
    rows = [ScoredRow([prefix, *first[:-1]], first, 0)] if tokens else []
    for start in range(window, len(tokens), window):
        end = min(start + window, len(tokens))
        rows.append(ScoredRow(tokens[end - window - 1 : end - 1], tokens[start:end], 0))
    return rows
