"""Whether a model's rows can join and leave a batch at any step, checked before the first row is generated."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from shardmark.engine.prefixes import Prefix
from shardmark.engine.transformers.continuous_batch import ContinuousBatch
from shardmark.engine.transformers.loading import input_device, precision
from shardmark.engine.transformers.logits import relative_difference

MOVING_ROPE = {"dynamic", "longrope"}
"Types of rotary embeddings that depend on the longest row of a batch."
NEAR = {torch.float32: 1e-3}
"The largest accepted difference of logits, relative to the largest logit."
ROUGHLY = 0.1
"The same for half precision, where the order of a sum matters."


@dataclass
class _Probe:
    prefix: Prefix | None
    sequence: list[int]
    max_length: int = 16


def why_not_continuous(model: PreTrainedModel) -> str | None:
    """The reason why rows of a model cannot share keys and values; None if they can.

    A model's properties rule out the cases that are known to fail; then a few tokens are run both ways, and the logits
    compared.
    """
    if getattr(model, "_is_stateful", False):
        return "its state cannot be cut into tokens"
    if not getattr(model, "_supports_attention_backend", False):
        return "it has custom attention"
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or [])
    layers = {type(layer) for layer in DynamicCache(config=model.config).layers}
    if kinds - {"full_attention", "sliding_attention"} or layers - {DynamicLayer, DynamicSlidingWindowLayer}:
        return "it has layers other than full and sliding attention"
    if moving_ropes(model.config):
        return "its rotary embeddings change with the longest row"
    try:
        difference = _difference(model)
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        if "out of memory" in str(error):
            raise
        return f"a trial failed: {type(error).__name__}: {error}"
    return None if difference <= NEAR.get(precision(model), ROUGHLY) else f"a trial was off by {difference:.2g}"


def moving_ropes(config: PreTrainedConfig) -> list[dict[str, Any]]:
    """The rotary settings, of all or of a kind of layers, with which positions are embedded differently in long rows.

    Rows of such models must not share a batch. Code that comes with weights may know the settings by their former name.
    """
    text = config.get_text_config()
    settings = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    kinds = [settings, *(value for value in settings.values() if isinstance(value, dict))]
    return [kind for kind in kinds if MOVING_ROPE & {kind.get("rope_type"), kind.get("type")}]


@torch.inference_mode()
def forget_lengths(model: PreTrainedModel) -> None:
    """Undo what "dynamic" rotary embeddings keep of the longest sequence so far: answers must not depend on others."""
    for module in model.modules():
        for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
            prefix = name.removesuffix("max_seq_len_cached")
            frequencies = getattr(module, f"{prefix}original_inv_freq", None)
            if frequencies is not None:
                getattr(module, f"{prefix}inv_freq").copy_(frequencies)
                setattr(module, name, module.original_max_seq_len)


@torch.inference_mode()
def _difference(model: PreTrainedModel) -> float:
    """The largest difference between logits computed with and without sharing, relative to the largest logit."""
    size = len(model.get_input_embeddings().weight)
    tokens = [(7 * n + 3) % size for n in range(14)]
    prefix = Prefix(tuple(tokens[:4]), 0, None)
    below = Prefix(tuple(tokens[4:6]), 4, prefix)
    rows = [_Probe(below, tokens[:9]), _Probe(prefix, [*tokens[:4], *tokens[9:]]), _Probe(None, tokens[2:4])]
    batch = ContinuousBatch(model)
    batch.join(rows[:2], tokens=3)
    batch.decode_step()  # its keys and values are overwritten by the next step
    batch.join(rows[2:])
    found = batch.decode_step()
    inputs = [torch.tensor([row.sequence], device=input_device(model)) for row in rows]
    wanted = torch.stack([model(input_ids=row, use_cache=False).logits[0, -1] for row in inputs])
    return relative_difference(found, wanted)
