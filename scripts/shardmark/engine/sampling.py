"""From logits to the next token of each row: greedy, or drawn by a generator of the row's own.

A draw takes one uniform number from a generator that is keyed by request and sample, and looks it up in the cumulative
distribution in the order of token ids, in float64. So it depends neither on batch mates nor on the order of work, and
the last bits of a logit move no boundary far enough to matter.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

DRAWING_BYTES = 1 << 28
"About how many bytes of float64 probabilities are worked on at once."
NUCLEUS = 1024
"Tokens among which the nucleus is sought first: sorting a whole large vocabulary takes longer than a layer."


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The defaults are greedy."""

    temperature: float = 0.0
    "Logits are divided by it; 0 takes the largest."
    top_k: int = 0
    "Only the most likely tokens (and what ties with the last of them); 0 for all."
    top_p: float = 1.0
    "Of these, the fewest most likely ones that together have this probability (Holtzman et al. 2020)."
    min_new_tokens: int = 0
    "The fewest tokens before one that ends the text."


GREEDY = Sampling()


def generator(request_id: str, sample: int) -> np.random.Generator:
    """The source of uniform numbers of a request's sample, the same on every machine (Philox, keyed by SHA-256)."""
    digest = hashlib.sha256(f"{request_id}:{sample}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def choose(logits: torch.Tensor, settings: Sequence[Sampling], uniform: Sequence[float | None]) -> torch.Tensor:
    """The next token of each row, [rows] on the logits' device.

    `logits` is [rows, vocabulary] in float32; `uniform` has a number in [0, 1) for each row that draws.
    """
    tokens = logits.argmax(-1)
    drawing = [n for n, one in enumerate(settings) if one.temperature > 0]
    step = max(1, DRAWING_BYTES // (8 * 4 * logits.shape[-1]))  # about four such tensors live at once
    for begin in range(0, len(drawing), step):
        part = drawing[begin : begin + step]
        at = torch.tensor(part, device=logits.device)
        numbers = torch.tensor([uniform[n] for n in part], dtype=torch.float64, device=logits.device)
        tokens[at] = _look_up(probabilities(logits[at], [settings[n] for n in part]), numbers)
    return tokens


def probabilities(logits: torch.Tensor, settings: Sequence[Sampling]) -> torch.Tensor:
    """The distribution that each row's token is drawn from, [rows, vocabulary] in float64, not normalised."""

    def column(values: list[float], dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=logits.device)[:, None]

    scores = logits.double() / column([one.temperature for one in settings])
    size = scores.shape[-1]
    ranks = [min(one.top_k, size) if one.top_k else size for one in settings]
    limited = [rank for rank in ranks if rank < size]
    if limited:
        best = scores.topk(max(limited)).values
        last = best.gather(1, column([min(rank, max(limited)) - 1 for rank in ranks], torch.int64))
        cut = column([float(rank < size) for rank in ranks]).bool()
        scores = scores.masked_fill(cut & (scores < last), -torch.inf)
    chances = scores.softmax(-1)
    nucleus = [n for n, one in enumerate(settings) if one.top_p < 1]
    if nucleus:
        at = torch.tensor(nucleus, device=logits.device)
        chances[at] = _nucleus(chances[at], column([settings[n].top_p for n in nucleus]))
    return chances


def _nucleus(chances: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """Without the tokens before which, the most likely first, that much mass has already come."""
    for width in (min(NUCLEUS, chances.shape[-1]), chances.shape[-1]):
        values, tokens = chances.topk(width)
        total = values.cumsum(-1)
        if bool((total[:, -1:] >= mass).all()):
            break
    kept = torch.where(total - values < mass, values, 0.0)
    return torch.zeros_like(chances).scatter_(1, tokens, kept)


def _look_up(chances: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """The first token whose cumulative probability exceeds the row's number."""
    total = chances.cumsum(-1)
    found = torch.searchsorted(total, numbers[:, None] * total[:, -1:], right=True)[:, 0]
    last = (chances.shape[-1] - 1) - (chances > 0).flip(-1).long().argmax(-1)  # rounding must not pass the last one
    return torch.minimum(found, last)
