"""Attention in which a token sees its ancestors in a tree, in any model that asks transformers for its attention.

transformers lets a model's attention and mask functions be exchanged by name. Here the mask is the model's own mask
function (causal, sliding window, chunked) at the tokens' depths, and the tree's relation; so each layer gets the window
it has. The attention is the model's own function, for a block of neighbouring tokens at a time with only the keys that
one of them sees: distant branches cost nothing.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from shardmark.engine.tree import Chunk

NAME = "shardmark_tree"
SUPPORTED = ("sdpa", "eager")
"The attention functions that take any mask."


class NoTreeError(Exception):
    """The model's attention cannot be given a tree; the message says why."""


class View:
    """What the tokens of a chunk see."""

    def __init__(self, chunk: Chunk, block: int, original: str) -> None:
        self.original = original
        self.past = chunk.past
        self.size = len(chunk.tokens)
        self.depth = torch.from_numpy(chunk.depth)
        self.seen_from = torch.from_numpy(chunk.seen_from)
        self.seen_until = torch.from_numpy(chunk.seen_until)
        self._blocks = [self._block(start, min(start + block, self.size)) for start in range(0, self.size, block)]
        self._moved: dict[torch.device, list[tuple[int, int, torch.Tensor | None]]] = {}

    def _block(self, start: int, stop: int) -> tuple[int, int, torch.Tensor | None]:
        """The columns that one of the tokens from start to stop sees; None stands for all."""
        seen = (self.seen_from < stop) & (self.seen_until > start)
        return start, stop, None if bool(seen.all()) else seen.nonzero()[:, 0]

    def blocks(self, device: torch.device) -> list[tuple[int, int, torch.Tensor | None]]:
        """Start, stop and columns of each block, on a device."""
        if device not in self._moved:
            self._moved[device] = [(a, b, None if c is None else c.to(device)) for a, b, c in self._blocks]
        return self._moved[device]

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
        raise NoTreeError("its mask is no function of positions")
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
    outputs = []
    for start, stop, columns in view.blocks(query.device):
        keys, values, mask = key, value, attention_mask[:, :, start:stop]
        if columns is not None:
            keys, values, mask = (t.index_select(dim, columns) for t, dim in ((key, 2), (value, 2), (mask, 3)))
        outputs.append(attend(module, query[:, :, start:stop], keys, values, mask, **kwargs)[0])
    return torch.cat(outputs, dim=1), None


def _original(module: torch.nn.Module, name: str) -> Callable[..., Any]:
    """A layer's own attention function of a name."""
    file = vars(sys.modules[type(module).__module__])
    functions = file.get("ALL_ATTENTION_FUNCTIONS")
    if functions is None:
        raise NoTreeError("its attention is its own code")
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
    """While it lasts, the model's tokens see what a chunk says. `block` tokens attend together.

    Within, the model must be called with the chunk's tokens as its one row, their depths as position_ids, a cache of
    the path's keys and values, and no mask. Raises NoTreeError from within, for a model that cannot take it.
    """
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    before = [(config, config._attn_implementation) for config in configs.values()]
    token = _view.set(View(chunk, block, str(attention_of(model))))
    try:
        for config, _ in before:
            config._attn_implementation = NAME
        yield
    finally:
        for config, name in before:  # the model's own comes first, and its setter also sets its parts'
            config._attn_implementation = name
        _view.reset(token)
