"""One chunk of a token tree through a model, after the path whose keys and values are stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from shardmark.engine.transformers.loading import input_device
from shardmark.engine.transformers.logits import hidden_states, logits_at
from shardmark.engine.transformers.tree_attention import tree_attention
from shardmark.engine.tree import Chunk, Numbers

BLOCK = {"cpu": 64, "cuda": 1024}
"Tokens that attend together. Small blocks compute little that the mask then drops; large ones need fewer calls."
MOST_TOKENS = {"cpu": 384, "cuda": 8192}
"The most new tokens in one forward pass: more are hardly faster, but take more memory."
SPARE = 1.5
"A buffer for keys that has become too small is replaced by one of this many times the size."


class PathLayer(DynamicLayer):
    """A layer's keys and values of the path, and of a chunk's tokens after them, in buffers that are written in place.

    Nothing is dropped for being outside a window: the mask handles windows, and another branch may begin further back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.past = 0
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def begin(self) -> None:
        """Show the path alone, even after a chunk that failed: it has written nothing into the path."""
        self._show(self.past)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a chunk's keys and values after the path's; returns views of both."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.past + key_states.shape[2]
        keys, values = self._buffers = self._room(end, key_states, value_states)
        keys[:, :, self.past : end], values[:, :, self.past : end] = key_states, value_states
        self._show(end)
        return self.keys, self.values

    def keep(self, first: int, others: torch.Tensor) -> None:
        """Make the first columns, and some of the others, the path of the next chunk."""
        self.past = first + len(others)
        for buffer in self._buffers or ():
            if len(others):
                buffer[:, :, first : self.past] = buffer.index_select(2, others.to(buffer.device))
        self._show(self.past)

    def _show(self, length: int) -> None:
        if self._buffers:
            self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)

    def _room(self, length: int, *like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Buffers for at least `length` tokens that begin with the path."""
        if self._buffers and self._buffers[0].shape[2] >= length:
            return self._buffers
        size = int(SPARE * length) if self._buffers else length
        keys, values = (one.new_empty(*one.shape[:2], size, one.shape[3]) for one in like)
        for old, new in zip(self._buffers or (), (keys, values), strict=False):
            new[:, :, : self.past] = old[:, :, : self.past]
        return keys, values


Kept = list[PathLayer]
"The keys and values of a path in each layer."


def chunk_logits(model: PreTrainedModel, chunk: Chunk, kept: Kept) -> tuple[torch.Tensor, Kept]:
    """Logits at the chunk's outputs, `[outputs, vocabulary]`, and the keys and values to keep for the next chunk.

    `kept` must not be used again, unless the chunk ran out of memory: it can then be tried again in parts.
    """
    cache = _cache(kept)
    positions = torch.from_numpy(chunk.outputs)
    with tree_attention(model, chunk, _block(model)):
        logits = logits_at(model, torch.zeros_like(positions), positions, **_inputs(model, chunk, cache))
    return logits, _kept(cache, chunk)


def chunk_states(
    model: PreTrainedModel, chunk: Chunk, kept: Kept, last_mlp: nn.Module | None = None
) -> tuple[torch.Tensor, Kept]:
    """Inputs of the output layer at each of the chunk's tokens, `[tokens, size]`, and the keys and values to keep.

    With the last layer's MLP, they are right only at the chunk's outputs, and the MLP runs for no others. `kept` is
    used up as by `chunk_logits`.
    """
    cache = _cache(kept)
    outputs = torch.from_numpy(chunk.outputs)
    with tree_attention(model, chunk, _block(model)), _only_at(outputs, last_mlp):
        states = hidden_states(model, **_inputs(model, chunk, cache))
    return states[0], _kept(cache, chunk)


@contextmanager
def _only_at(places: torch.Tensor, mlp: nn.Module | None) -> Iterator[None]:
    """Run an MLP only at some tokens, or at one if there are none; its output is 0 at the others."""
    if mlp is None:
        yield
        return
    places = places if len(places) else torch.zeros(1, dtype=torch.long)  # Moshi's cannot take none
    shape: list[int] = []

    def narrow(_: nn.Module, args: tuple[Any, ...]) -> torch.Tensor | None:
        if len(args) != 1 or args[0].dim() != 3:
            return None
        shape[:] = args[0].shape
        return args[0][:, places]

    def widen(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        if not shape:
            return output
        wide = output.new_zeros(shape)
        wide[:, places] = output
        return wide

    hooks = mlp.register_forward_pre_hook(narrow), mlp.register_forward_hook(widen)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _inputs(model: PreTrainedModel, chunk: Chunk, cache: DynamicCache) -> dict[str, Any]:
    tokens = torch.from_numpy(chunk.tokens)[None].to(input_device(model))
    depth = torch.from_numpy(chunk.depth[chunk.past :])[None].to(input_device(model))
    return {"input_ids": tokens, "position_ids": depth, "past_key_values": cache, "use_cache": True}


def _block(model: PreTrainedModel) -> int:
    return BLOCK.get(input_device(model).type, 1024)


def _cache(kept: Kept) -> DynamicCache:
    """A cache that begins with the path."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = PathLayer
    for layer in kept:
        layer.begin()
        cache.layers.append(layer)
    return cache


def _kept(cache: DynamicCache, chunk: Chunk) -> Kept:
    """The next chunk's path."""
    first = _in_place(chunk.keep)
    others = torch.from_numpy(chunk.keep[first:])
    for layer in cache.layers:
        layer.keep(first, others)
    return list(cache.layers)


def _in_place(keep: Numbers) -> int:
    """The number of columns to keep that are already in place."""
    moved = np.flatnonzero(keep != np.arange(len(keep)))
    return int(moved[0]) if len(moved) else len(keep)
