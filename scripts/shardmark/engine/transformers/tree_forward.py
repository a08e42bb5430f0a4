"""One chunk of a token tree through a model, after the path whose keys and values are kept."""

from functools import partial
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from shardmark.engine.transformers.loading import input_device
from shardmark.engine.transformers.logits import hidden_states, logits_at
from shardmark.engine.transformers.tree_attention import tree_attention
from shardmark.engine.tree import Chunk

Kept = list[tuple[torch.Tensor, torch.Tensor] | None]
"A path's keys and values in each layer, `[1, heads, past, size]`; None for a layer that keeps none."

BLOCK = {"cpu": 64, "cuda": 1024}
"How many tokens attend together. Small blocks compute little that the mask then drops, large ones are fewer calls."


def chunk_logits(model: PreTrainedModel, chunk: Chunk, kept: Kept) -> tuple[torch.Tensor, Kept]:
    """Logits at the chunk's outputs, `[outputs, vocabulary]`, and what to keep for the next chunk.

    `kept` is left as it is, so that a chunk which ran out of memory can be tried again in parts.
    """
    cache = _cache(kept, chunk)
    positions = torch.from_numpy(chunk.outputs)
    with tree_attention(model, chunk, _block(model)):
        logits = logits_at(model, torch.zeros_like(positions), positions, **_inputs(model, chunk, cache))
    return logits, _kept(cache)


def chunk_states(model: PreTrainedModel, chunk: Chunk, kept: Kept) -> tuple[torch.Tensor, Kept]:
    """What the output layer would work on at each of the chunk's tokens, `[tokens, size]`, and what to keep."""
    cache = _cache(kept, chunk)
    with tree_attention(model, chunk, _block(model)):
        states = hidden_states(model, **_inputs(model, chunk, cache))
    return states[0], _kept(cache)


def _inputs(model: PreTrainedModel, chunk: Chunk, cache: DynamicCache) -> dict[str, Any]:
    tokens = torch.from_numpy(chunk.tokens)[None].to(input_device(model))
    depth = torch.from_numpy(chunk.depth[chunk.past :])[None].to(input_device(model))
    return {"input_ids": tokens, "position_ids": depth, "past_key_values": cache, "use_cache": True}


def _block(model: PreTrainedModel) -> int:
    return BLOCK.get(input_device(model).type, 1024)


class PathLayer(DynamicLayer):
    """Gives a layer the keys and values of the path and the new tokens, and keeps those of the next chunk's path.

    So only the layer at work has them all. Nothing is dropped for being out of a window: the mask knows of windows, and
    another branch may begin further back.
    """

    def __init__(self, keep: torch.Tensor) -> None:
        super().__init__()
        self.keep = keep

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        here = self.keep.to(keys.device)
        self.keys, self.values = keys.index_select(2, here), values.index_select(2, here)
        return keys, values


def _cache(kept: Kept, chunk: Chunk) -> DynamicCache:
    """A cache that begins with a path, and is left with the next one."""
    keep = torch.from_numpy(chunk.keep)
    cache = DynamicCache()
    cache.layer_class_to_replicate = partial(PathLayer, keep)
    for pair in kept:
        layer = PathLayer(keep)
        if pair is not None:
            layer.lazy_initialization(*pair)
            layer.keys, layer.values = pair
        cache.layers.append(layer)
    return cache


def _kept(cache: DynamicCache) -> Kept:
    """The next chunk's path."""
    return [(layer.keys, layer.values) if layer.is_initialized else None for layer in cache.layers]
