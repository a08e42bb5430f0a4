"""The next token of each row from its logits: greedy, or drawn with the row's own random generator.

A draw takes one uniform number from a generator that is keyed by request and sample, and looks it up in the cumulative
distribution in the order of token ids, in float64. So it depends neither on the other rows of the batch nor on the
order of work, and the last bits of a logit move no boundary far enough to matter.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from shardmark.engine.transfer import sent

DRAWING_BYTES = 1 << 28
"The approximate number of bytes of float64 probabilities processed at once."
PART = 512
"Tokens in each part whose largest logit is found first."
NUCLEUS = 1024
"Tokens among which the nucleus is looked for first: sorting the whole of a large vocabulary takes longer than a layer."


@dataclass(frozen=True)
class Sampling:
    """Settings for choosing the next token. The defaults are greedy."""

    temperature: float = 0.0
    "Logits are divided by it; 0 takes the largest."
    top_k: int = 0
    "Consider only the most likely tokens (and ties with the last of them); 0 for all."
    top_p: float = 1.0
    "Of these, consider only the fewest most likely ones that together have this probability (Holtzman et al. 2020)."
    min_new_tokens: int = 0
    "The fewest tokens before an end-of-text token."


GREEDY = Sampling()


def generator(request_id: str, sample: int) -> np.random.Generator:
    """The random generator of a request's sample, the same on every machine (Philox, keyed by SHA-256)."""
    digest = hashlib.sha256(f"{request_id}:{sample}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def choose(
    logits: torch.Tensor,
    settings: Sequence[Sampling],
    uniform: Sequence[float | None],
    barred: Sequence[tuple[int, int]] = (),
) -> torch.Tensor:
    """The next token of each row, [rows] on the logits' device. Nothing here waits for a device.

    `logits` is [rows, vocabulary] in float32; `uniform` has a number in [0, 1) for each row that samples; `barred` has
    rows with tokens that must not come next.
    """
    drawing = [n for n, one in enumerate(settings) if one.temperature > 0]
    given = [uniform[n] or 0.0 for n in drawing]
    rows, numbers, *places = sent([drawing, given, [n for n, _ in barred], [t for _, t in barred]], logits.device)
    if barred:
        logits = logits.index_put(tuple(part.long() for part in places), logits.new_full((), -torch.inf))
    tokens = largest(logits)
    step = max(1, DRAWING_BYTES // (8 * 4 * logits.shape[-1]))  # about four such tensors live at once
    for begin in range(0, len(drawing), step):
        part = slice(begin, begin + step)
        at = rows[part].long()
        tokens[at] = _look_up(probabilities(logits[at], [settings[n] for n in drawing[part]]), numbers[part])
    return tokens


def largest(logits: torch.Tensor) -> torch.Tensor:
    """The token with the largest logit, or with a NaN, in each row, [rows].

    Same as argmax, which takes four times as long on a CPU: the maximum of each part is found much faster than its
    place.
    """
    size = logits.shape[-1]
    parts = size // PART
    if parts < 2 or logits.device.type != "cpu":
        return logits.argmax(-1)
    maxima = [logits[:, : parts * PART].unflatten(1, (parts, PART)).amax(-1)]
    if parts * PART < size:
        maxima.append(logits[:, parts * PART :].amax(-1, keepdim=True))
    start = torch.cat(maxima, 1).argmax(-1, keepdim=True) * PART
    within = (start + torch.arange(PART)).clamp_(max=size - 1)  # beyond the end, the last token is repeated
    return within.gather(1, logits.gather(1, within).argmax(-1, keepdim=True))[:, 0]


def probabilities(logits: torch.Tensor, settings: Sequence[Sampling]) -> torch.Tensor:
    """The distribution that each row's token is drawn from, [rows, vocabulary] in float64, not normalised."""
    size = logits.shape[-1]
    ranks = [min(one.top_k, size) if one.top_k else size for one in settings]
    widest = max((rank for rank in ranks if rank < size), default=0)
    nucleus = [n for n, one in enumerate(settings) if one.top_p < 1]
    temperature, last, cut, at, mass = sent(
        [
            [one.temperature for one in settings],
            [max(0, min(rank, widest) - 1) for rank in ranks],
            [rank < size for rank in ranks],
            nucleus,
            [settings[n].top_p for n in nucleus],
        ],
        logits.device,
    )
    scores = logits.double() / temperature[:, None]
    if widest:
        least = scores.topk(widest).values.gather(1, last[:, None].long())
        scores = scores.masked_fill(cut[:, None].bool() & (scores < least), -torch.inf)
    chances = scores.softmax(-1)
    if nucleus:
        chances[at.long()] = _nucleus(chances[at.long()], mass[:, None])
    return chances


def _nucleus(chances: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """The distribution without the tokens that come after `mass` has been reached, the most likely first."""
    size = chances.shape[-1]
    for width in (min(NUCLEUS, size), size) if chances.device.type == "cpu" else (size,):  # a GPU's answer takes longer
        values, tokens = chances.topk(width)
        total = values.cumsum(-1)
        if width == size or bool((total[:, -1:] >= mass).all()):
            break
    kept = torch.where(total - values < mass, values, 0.0)
    return torch.zeros_like(chances).scatter_(1, tokens, kept)


def _look_up(chances: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """The first token whose cumulative probability exceeds the row's number."""
    total = chances.cumsum(-1)
    found = torch.searchsorted(total, numbers[:, None] * total[:, -1:], right=True)[:, 0]
    last = (chances.shape[-1] - 1) - (chances > 0).flip(-1).long().argmax(-1)  # rounding must not pass the last one
    return torch.minimum(found, last)
