"""The largest logits of an output layer, looked for in 8 bits first, on CPUs that multiply those much faster.

Products of integers are exact, so the error of an approximate logit is at most the norm of the input times that of what
rounding has taken from the weight (Cauchy and Schwarz). Only the parts of the vocabulary that may have the largest
logit within this bound are multiplied in float32. So the largest logit is the same as without.
"""

import math

import torch
from torch import nn
from transformers import PreTrainedModel

from shardmark.engine.transformers.logits import plain_output_layer
from shardmark.engine.transformers.mapped_files import MappedFiles
from shardmark.engine.transformers.packed import processor

FASTER = {("GenuineIntel", "AVX512")}
"Vendors and instruction sets with which it was measured to be faster, if they have VNNI."
LEAST_TOKENS = 1 << 15
"Smaller vocabularies gain little."
LEAST_NEW_TOKENS = 16
"Shorter answers take less time than making the integers does: Gemma 3 270M saves it in 13 to 20 steps."
PART, SLICE = 32, 2048
"Tokens that share a scale and are looked at together, and tokens of one product of integers."
GROUP = 4
"Parts that are rounded at a time."
LEVELS = 127
"The largest 8-bit integer."
LEAST_FINE = 16
"The least steps that the second integer divides one of the first into: with fewer, too many tokens are left."
MOST_LEFT = 0.25
"If more parts of the vocabulary than this share may have the largest logit, all are multiplied in float32."
ROUNDING = 1e-5
"The error of float32 products, relative to the norms of both factors."


class Screen:
    """An output layer without bias whose weights, [tokens, size], are also kept as 8-bit integers."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight = weight.detach()
        size = weight.shape[1]
        self._fine = fine_steps(size)
        unseen = math.sqrt(size) / (2 * LEVELS * self._fine) + ROUNDING  # at most, of an input's norm
        largest = torch.cat([tokens.abs().amax(1) for tokens in weight.split(SLICE)])
        self._tokens = largest.argsort().unflatten(0, (-1, PART))  # those that share a scale are alike
        self._integers = torch.empty(weight.shape, dtype=torch.int8)
        scales, errors = [], []
        for tokens, whole in zip(self._tokens.split(GROUP), self._integers.split(GROUP * PART), strict=True):
            dense = weight[tokens]
            scale = (dense.abs().amax((1, 2)) / LEVELS).clamp_min(torch.finfo().tiny)
            rounded = (dense / scale[:, None, None]).round_()
            whole.copy_(rounded.flatten(0, 1))
            lost = rounded.mul_(-scale[:, None, None]).add_(dense).norm(dim=2)
            scales.append(scale)
            errors.append(((1 + unseen) * lost + unseen * dense.norm(dim=2)).amax(1))
        self._scales, self._errors = torch.cat(scales), torch.cat(errors)
        self._is_finite = bool(self._errors.isfinite().all())
        self._logits = torch.empty(0, len(weight))
        self._written = torch.empty(0, dtype=torch.long)
        MappedFiles().let_go(weight)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits, `[rows, tokens]`, of inputs `[rows, size]`: -inf for some that are not the largest in any row.

        The next call may overwrite them.
        """
        largest = states.abs().amax(1, keepdim=True)
        is_finite = self._is_finite and bool(largest.isfinite().all())
        parts = self._parts(states, largest) if is_finite else None
        if parts is None:
            return nn.functional.linear(states, self.weight)
        rows = len(states)
        if len(self._logits) < rows:
            self._logits = torch.full((rows, len(self.weight)), -torch.inf)
        self._logits[:, self._written] = -torch.inf
        self._written = self._tokens[parts].flatten()
        self._logits[:rows, self._written] = torch.mm(states, self.weight[self._written].T)
        return self._logits[:rows]

    def _parts(self, states: torch.Tensor, largest: torch.Tensor) -> torch.Tensor | None:
        """The parts of the vocabulary that may have the largest logit of a row; None if they are too many."""
        unit = (largest / LEVELS).clamp_min(torch.finfo().tiny)
        scaled = states / unit
        coarse = scaled.round()
        fine = scaled.sub_(coarse).mul_(self._fine).round_()
        integers, rows = torch.cat([coarse, fine]).to(torch.int8), len(states)
        found = []
        for weights in self._integers.split(SLICE):
            products = torch._int_mm(integers, weights.T)
            sums = torch.add(products[rows:], products[:rows], alpha=self._fine)
            found.append(sums.unflatten(1, (-1, PART)).amax(2))
        tops = torch.cat(found, 1) * (unit / self._fine) * self._scales
        bound = states.norm(dim=1, keepdim=True) * self._errors
        left = (tops + bound >= (tops - bound).amax(1, keepdim=True)).any(0).nonzero()[:, 0]
        return left if len(left) <= MOST_LEFT * len(self._scales) else None


def fine_steps(size: int) -> int:
    """Steps that an input's second integer divides one of its first into, so that sums of products fit in 32 bits."""
    return int(min(2 * LEVELS, (2**31 - 1) // (size * LEVELS * (LEVELS + 1))))


def screenable(model: PreTrainedModel) -> nn.Linear | None:
    """The output layer of a model if looking in 8 bits first is known to be faster for it on this processor."""
    layer = model.get_output_embeddings()
    if processor() not in FASTER or not _multiplies_integers() or not isinstance(layer, nn.Linear):
        return None
    tokens, size = layer.weight.shape
    is_worth = tokens >= LEAST_TOKENS and tokens % PART == 0 and fine_steps(size) >= LEAST_FINE
    if not is_worth or layer.bias is not None or layer.weight.dtype != torch.float32:
        return None
    return layer if plain_output_layer(model) is layer else None


def _multiplies_integers() -> bool:
    """Whether this processor and this build of torch, of which it is not public, multiply 8-bit integers fast."""
    one = torch.ones(1, 1, dtype=torch.int8)
    try:
        return bool(torch.cpu._is_vnni_supported()) and torch._int_mm(one, one).tolist() == [[1]]
    except (AttributeError, RuntimeError, TypeError):
        return False
