"""The output layer, run only at the positions needed, and the log-likelihoods from its outputs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from shardmark.engine.sampling import largest
from shardmark.engine.transformers.packed import PackedLinear

SOFTMAX_BYTES = {"cpu": 8 << 20, "cuda": 1 << 30}
"The approximate number of bytes of float32 logits per softmax: on a CPU, as much as its caches hold."
SLICE = 2048
"Tokens of the vocabulary whose logits are computed at a time on a CPU: few enough that they stay in its caches."
PACKED_ROWS = 128
"The most positions at which a packed output layer, which cannot be sliced, runs at a time."


def logits_at(model: PreTrainedModel, rows: torch.Tensor, positions: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """The model's logits at some (row, position) of its input, `[positions, vocabulary]`, in the model's dtype.

    A hook in front of the output layer keeps only these positions of the hidden states. What a model does with its
    logits afterwards (scaling, soft-capping) remains the model's own code. Raises RuntimeError for a model whose logits
    do not come from its output embeddings.
    """
    calls = 0

    def gather(hidden: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return hidden[rows.to(hidden.device), positions.to(hidden.device)].unsqueeze(0)

    with _before_output_layer(model, gather):
        logits: torch.Tensor = model(**inputs).logits[0]
    if calls != 1 or len(logits) != len(positions):
        raise RuntimeError(f"{type(model).__name__} does not take its logits from its output embeddings")
    return logits


def hidden_states(model: PreTrainedModel, **inputs: Any) -> torch.Tensor:
    """The inputs of the output layer, `[rows, length, size]`. The layer itself does not run."""
    seen: list[torch.Tensor] = []

    def take(hidden: torch.Tensor) -> torch.Tensor:
        seen.append(hidden)
        return hidden[:, :0]

    with _before_output_layer(model, take):
        model(**inputs)
    return seen[0]


@contextmanager
def _before_output_layer(model: PreTrainedModel, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    layer = model.get_output_embeddings()
    hook = layer.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
    try:
        yield
    finally:
        hook.remove()


def relative_difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference of two computations' logits, relative to the largest logit; inf if only one is finite."""
    found, wanted = found.float(), wanted.float()
    whole = wanted.isfinite()
    if not torch.equal(whole, found.isfinite()):
        return float("inf")
    return float((found - wanted)[whole].abs().max() / wanted[whole].abs().max()) if bool(whole.any()) else 0.0


def log_likelihoods(
    logits: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-likelihood (nats, float32) of each target after its output, and whether it is the argmax; on the CPU.

    `logits` are `[outputs, vocabulary]`; `outputs` gives one of these rows for each of the `targets`.
    """
    outputs, targets = outputs.to(logits.device), targets.to(logits.device)
    step = max(1, SOFTMAX_BYTES.get(logits.device.type, 1 << 30) // (8 * logits.shape[-1]))  # with the copy below
    norms, best = [], []
    copy = torch.empty_like(logits[:step], dtype=torch.float32)
    for part in logits.split(step):
        part = part.float()
        best.append(largest(part))
        top = part.gather(1, best[-1][:, None])
        top = top.masked_fill(top.isinf(), 0)
        # What logsumexp does, without memory that is new, and so slow, in each part
        norms.append(torch.sub(part, top, out=copy[: len(part)]).exp_().sum(1).log_().add_(top[:, 0]))
    values = logits[outputs, targets].float() - torch.cat(norms)[outputs]
    return values.cpu(), (torch.cat(best)[outputs] == targets).cpu()


def plain_output_layer(model: PreTrainedModel) -> nn.Module | None:
    """The output layer, if it is on a CPU and its outputs are the model's logits; None if the model changes them."""
    layer = model.get_output_embeddings()
    if type(layer) is not PackedLinear and (type(layer) is not nn.Linear or layer.weight.device.type != "cpu"):
        return None
    seen: list[torch.Tensor] = []
    places = torch.arange(8)  # several, since a row of padding in the embeddings is often 0, and so are its logits
    tokens = (7 * places + 1) % len(model.get_input_embeddings().weight)
    hook = layer.register_forward_hook(lambda *call: seen.append(call[2]))
    try:
        logits = logits_at(model, 0 * places, places, input_ids=tokens[None], use_cache=False)
    finally:
        hook.remove()
    return layer if torch.equal(seen[0][0].float(), logits.float()) else None


def sliced_log_likelihoods(
    layer: nn.Module, states: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`log_likelihoods` from the inputs of a plain output layer, `[outputs, size]`, without writing all logits.

    With many inputs, a slice of the vocabulary at a time is the fastest product, and softmax finds it in the caches.
    """
    if isinstance(layer, PackedLinear):
        return _in_parts(layer, states, outputs, targets)
    weight, bias = layer.weight, layer.bias
    values, is_first = torch.empty(len(targets)), torch.zeros(len(targets), dtype=torch.bool)
    tops, sums = [], []
    room = states.new_empty(len(states), min(SLICE, len(weight)))
    for number, part in enumerate(weight.split(SLICE)):
        logits = torch.mm(states, part.T, out=room[:, : len(part)])
        if bias is not None:
            logits += bias[number * SLICE :][: len(part)]
        logits = logits.float()
        top = logits.amax(1)
        here = (targets // SLICE == number).nonzero()[:, 0]
        if len(here):
            rows, columns = outputs[here], targets[here] % SLICE
            values[here] = logits[rows, columns]
            is_first[here] = logits[rows].argmax(1) == columns
        tops.append(top)
        sums.append(logits.sub_(top.masked_fill(top.isinf(), 0)[:, None]).exp_().sum(1))
    every = torch.stack(tops, 1)
    best, most = every.argmax(1), every.amax(1)
    most = most.masked_fill(most.isinf(), 0)
    norms = (torch.stack(sums, 1) * (every - most[:, None]).exp()).sum(1).log() + most
    return values - norms[outputs], is_first & (best[outputs] == targets // SLICE)


def _in_parts(
    layer: nn.Module, states: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    values, best = torch.empty(len(targets)), torch.zeros(len(targets), dtype=torch.bool)
    for start in range(0, len(states), PACKED_ROWS):
        here = ((start <= outputs) & (outputs < start + PACKED_ROWS)).nonzero()[:, 0]
        logits = layer(states[start : start + PACKED_ROWS])
        values[here], best[here] = log_likelihoods(logits, outputs[here] - start, targets[here])
    return values, best
