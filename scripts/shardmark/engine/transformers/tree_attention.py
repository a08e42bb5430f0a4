"""Attention in which a token sees its ancestors in a tree, for any model that gets its attention from transformers.

transformers lets a model's attention and mask functions be exchanged by name. Here the mask combines the model's own
mask function (causal, sliding window, chunked) at the tokens' depths with the tree's relation, so each layer keeps its
window. The attention is the model's own function, called for a block of neighbouring tokens at a time with only the
keys that one of them sees in this layer: distant branches, and tokens before a window, cost nothing.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from shardmark.engine.tree import Chunk

NAME = "shardmark_tree"
SUPPORTED = ("sdpa", "eager")
"The attention functions that accept any mask."
GAPS = 1.25
"Columns are taken as one slice, which copies nothing, if it has at most this many times the visible columns."
MASK_BYTES = 32 << 20
"The most bytes of a mask in the form that a CPU adds, which is kept for a forward; a larger one is made in each layer."
Columns: TypeAlias = "slice | torch.Tensor"


@dataclass(frozen=True)
class Block:
    """Neighbouring tokens that attend together, and the columns they attend to."""

    tokens: slice
    columns: Columns
    mask: torch.Tensor
    "The mask of these tokens and columns, `[1, 1, copies x tokens, columns]`."

    def seen(self, tensor: torch.Tensor) -> torch.Tensor:
        """The block's columns of keys or values, `[1, heads, columns, size]`."""
        return _taken(tensor, 2, self.columns)


class NoTreeError(Exception):
    """The model's attention cannot take a tree; the message says why."""


class View:
    """The columns that the tokens of a chunk attend to."""

    def __init__(self, chunk: Chunk, block: int, original: str) -> None:
        self.original = original
        self.past = chunk.past
        self.size = len(chunk.tokens)
        self.depth = torch.from_numpy(chunk.depth)
        self.seen_from = torch.from_numpy(chunk.seen_from)
        self.seen_until = torch.from_numpy(chunk.seen_until)
        self._starts = range(0, self.size, block)
        self._blocks: dict[Any, tuple[torch.Tensor, list[Block]]] = {}

    def blocks(self, mask: torch.Tensor, copies: int = 1, dtype: torch.dtype = torch.bool) -> list[Block]:
        """The blocks under a mask, each with several copies of its rows in turn, and to be added if dtype is not bool.

        Layers of one kind share a mask, so the blocks are computed once for all of them.
        """
        key = id(mask), copies, dtype  # the mask is kept, so that its id stays unique
        if key not in self._blocks:
            self._blocks[key] = mask, [self._block(start, mask, copies, dtype) for start in self._starts]
        return self._blocks[key][1]

    def _block(self, start: int, mask: torch.Tensor, copies: int, dtype: torch.dtype) -> Block:
        rows = mask[:, :, start : min(start + self._starts.step, self.size)]
        seen = (
            (rows if rows.dtype == torch.bool else rows > torch.finfo(rows.dtype).min / 2)[0, 0].any(0).nonzero()[:, 0]
        )
        first, last = int(seen[0]), int(seen[-1]) + 1
        columns = slice(first, last) if last - first <= GAPS * len(seen) else seen
        taken = _taken(rows, 3, columns)
        if taken.dtype != dtype and taken.dtype == torch.bool:
            taken = torch.zeros(taken.shape, dtype=dtype).masked_fill_(~taken, -torch.inf)
        copied = taken.repeat(1, 1, copies, 1) if copies > 1 else taken.contiguous()
        return Block(slice(start, start + rows.shape[2]), columns, copied)

    def allowed(self, mask_function: Callable[..., Any], device: torch.device) -> torch.Tensor:
        """Whether a new token attends to a column, `[new, past + new]`, under one of the model's mask functions."""
        new = torch.arange(self.size)[:, None]
        tree = (self.seen_from[None] <= new) & (new < self.seen_until[None])
        here, nothing = self.depth.to(device), torch.zeros(1, dtype=torch.long, device=device)
        return tree.to(device) & mask_function(nothing, nothing, here[self.past :, None], here[None])


_view: ContextVar[View] = ContextVar("view")


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    mask_function: Callable[..., Any],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    use_vmap: bool = False,
    **_: Any,
) -> torch.Tensor:
    """The mask `[1, 1, new, past + new]` in the form that the model's own attention function takes."""
    view = _view.get()
    if use_vmap:
        raise NoTreeError("its mask is not a function of positions")
    if (batch_size, q_length, kv_length) != (1, view.size, len(view.depth)):
        raise NoTreeError(f"it asks for a mask of {q_length} x {kv_length}, not {view.size} x {len(view.depth)}")
    allowed = view.allowed(mask_function, torch.device(device))[None, None]
    if view.original == "sdpa":
        return allowed
    return torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill_(~allowed, torch.finfo(dtype).min)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Queries `[1, heads, new, size]`, keys and values `[1, heads, past + new, size]` -> `[1, new, heads, size]`."""
    view = _view.get()
    if attention_mask is None or kwargs.get("position_bias") is not None:
        raise NoTreeError("it makes its mask in its attention layers")
    attend = _original(module, view.original)
    if attend is sdpa_attention_forward and query.device.type == "cpu" and kwargs.get("softcap") is None:
        attend, copies = _grouped, query.shape[1] // key.shape[1]
        is_kept = attention_mask.numel() * copies * query.element_size() <= MASK_BYTES
        blocks = view.blocks(attention_mask, copies, query.dtype) if is_kept else view.blocks(attention_mask)
    else:
        blocks = view.blocks(attention_mask)
    outputs = [
        attend(module, query[:, :, block.tokens], block.seen(key), block.seen(value), block.mask, **kwargs)[0]
        for block in blocks
    ]
    return torch.cat(outputs, dim=1), None


def _grouped(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' sdpa attention without copies of keys for each query head: these become rows of their key head.

    On a CPU torch's own grouping also avoids the copy, but multiplies with a key once for each of its query heads. And
    it makes a mask to be added of a bool one in each call, which takes half as long as the rest. The mask may have a
    copy of its rows for each query head of a key head.
    """
    heads, (_, every, tokens, size) = key.shape[1], query.shape
    rows = query.reshape(1, heads, every // heads * tokens, size)
    if mask.shape[2] != rows.shape[2]:
        mask = mask.repeat(1, 1, every // heads, 1)
    outputs = torch.nn.functional.scaled_dot_product_attention(rows, key, value, attn_mask=mask, scale=scaling)
    return outputs.reshape(1, every, tokens, -1).transpose(1, 2), None


def _taken(tensor: torch.Tensor, dim: int, columns: Columns) -> torch.Tensor:
    """Some columns of a tensor; a view if they are a slice."""
    if isinstance(columns, slice):
        return tensor.narrow(dim, columns.start, columns.stop - columns.start)
    return tensor.index_select(dim, columns)


def _original(module: torch.nn.Module, name: str) -> Callable[..., Any]:
    """The attention function with a given name for a layer."""
    file = vars(sys.modules[type(module).__module__])
    functions = file.get("ALL_ATTENTION_FUNCTIONS")
    if functions is None:
        raise NoTreeError("it has custom attention")
    attend: Callable[..., Any] = functions.get_interface(name, file.get("eager_attention_forward"))
    return attend


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)


def attention_of(model: PreTrainedModel) -> str | None:
    """The name of a model's attention function."""
    name: str | None = model.config.get_text_config()._attn_implementation
    return name


@contextmanager
def tree_attention(model: PreTrainedModel, chunk: Chunk, block: int) -> Iterator[None]:
    """A block in which the model's tokens attend as a chunk says. `block` tokens attend together.

    Within it, the model must be called with the chunk's tokens as its one row, their depths as position_ids, a cache of
    the path's keys and values, and no mask. Raises NoTreeError from within, for a model that cannot do this.
    """
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    before = [(config, config._attn_implementation) for config in configs.values()]
    token = _view.set(View(chunk, block, str(attention_of(model))))
    try:
        for config, _ in before:
            config._attn_implementation = NAME
        yield
    finally:
        for config, name in before:  # the model's own comes first: its setter also sets its parts'
            config._attn_implementation = name
        _view.reset(token)
