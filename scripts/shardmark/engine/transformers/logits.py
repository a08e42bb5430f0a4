"""The output layer, run only at the positions needed, and the log-likelihoods from its outputs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from shardmark.engine.sampling import largest

SOFTMAX_BYTES = {"cpu": 8 << 20, "cuda": 1 << 30}
"The approximate number of bytes of float32 logits per softmax: on a CPU, as much as its caches hold."


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
