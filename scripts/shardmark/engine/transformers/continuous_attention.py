"""Attention over a line of tokens that belong to several rows, as transformers' attention interface.

The tokens of a forward pass lie side by side in one line, without padding: one of each row in a decode step, or the
unshared parts of several prompts in prefill. Only attention knows to which row a token belongs. A row attends to its
prefixes' keys (one matrix product for all rows of a prefix) and to its own; one softmax covers both, so nothing is
approximated.
"""

import abc
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface

from shardmark.engine.transfer import outgoing

ATTENTION = "shardmark_continuous"
"The name under which the attention below is registered with transformers."


class KVBlock:
    """A block of KV cache: each layer's keys and values [rows, heads, capacity, head size], zeros where unused."""

    def __init__(self, rows: int, capacity: int) -> None:
        self.rows, self.capacity = rows, capacity
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}

    def write(self, layer: int, rows: torch.Tensor, at: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store keys and values, [heads, tokens, size], of tokens in these rows and places."""
        for kept, new in ((self.keys, key), (self.values, value)):
            if layer not in kept:
                kept[layer] = new.new_zeros(self.rows, new.shape[0], self.capacity, new.shape[-1])
            kept[layer][rows.to(new.device), :, at.to(new.device)] = new.transpose(0, 1)

    def resize(self, rows: int, capacity: int, used: int) -> None:
        """Make room for `rows` rows and `capacity` tokens; the first `used` rows are kept."""
        length = min(capacity, self.capacity)
        for kept in (self.keys, self.values):
            for layer, old in kept.items():
                kept[layer] = old.new_zeros(rows, old.shape[1], capacity, old.shape[-1])
                kept[layer][:used, :, :length] = old[:used, :, :length]
        self.rows, self.capacity = rows, capacity

    def move(self, source: int, target: int) -> None:
        """Move one row into another's place and leave zeros: masked values are multiplied by 0, but 0 * NaN is NaN."""
        for kept in (self.keys, self.values):
            for tensor in kept.values():
                if source != target:
                    tensor[target] = tensor[source]
                tensor[source] = 0


COLUMNS = 256
"Where shapes are rounded, columns of scores come in multiples of this: CUDA graphs of shorter steps soon wear out."


def rounded_up(number: int, least: int = 1) -> int:
    """The next number with at most three significant bits, and a multiple of `least`: at most a quarter is wasted."""
    step = max(least, 1 << max(0, (number - 1).bit_length() - 3))
    return -(-number // step) * step


@dataclass
class Segment:
    """Tokens of one row in a line of tokens, after `base` shared and `start` own tokens."""

    row: int
    base: int
    start: int
    tokens: list[int]
    shared: list[KVBlock]
    "The blocks of the row's prefixes, in order."

    @property
    def positions(self) -> range:
        """Positions in the row's whole sequence."""
        return range(self.base + self.start, self.base + self.start + len(self.tokens))


class ForwardPass(abc.ABC):
    """One forward pass: the place of its keys and values, and the attention of each of its tokens."""

    def __init__(self, block: KVBlock, segments: Sequence[Segment], windows: Sequence[int | None]) -> None:
        self.block, self.segments, self.windows = block, segments, windows
        self._columns: list[list[int]] = [
            [token for segment in segments for token in segment.tokens],
            [position for segment in segments for position in segment.positions],
            [segment.row for segment in segments for _ in segment.tokens],
            [position - segment.base for segment in segments for position in segment.positions],
        ]

    def numbers(self, device: torch.device) -> torch.Tensor:
        """All that differs from pass to pass of the same shapes, on the host, for one transfer to the device."""
        return outgoing(self._columns, torch.int64, device)

    def read(self, numbers: torch.Tensor) -> None:
        """Take what `numbers` has given, by now on the device."""
        self.inputs = numbers
        lengths = [len(column) for column in self._columns]
        self.tokens, self.positions, self._rows, self._places, *self._groups = numbers.split(lengths)
        self._masks: dict[Any, torch.Tensor] = {}

    def write(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store the keys and values, [1, heads, tokens, size], that this pass has computed."""
        if self._rows.device != key.device:
            self._rows, self._places = self._rows.to(key.device), self._places.to(key.device)
        self.block.write(layer, self._rows, self._places, key[0], value[0])

    @abc.abstractmethod
    def attend(self, layer: int, query: torch.Tensor, scaling: float, capping: "Capping") -> torch.Tensor:
        """The attention output [tokens, heads, value size] for queries [heads, tokens, size]."""

    def _mask(self, name: Hashable, device: torch.device, make: Callable[..., torch.Tensor]) -> torch.Tensor:
        """A mask, made once for all layers with the same window."""
        if (name, device) not in self._masks:
            self._masks[name, device] = make().to(device)
        return self._masks[name, device]


class Prefill(ForwardPass):
    """Prompts, or a shared prefix: each row's tokens attend to its prefixes and to itself, row by row."""

    def attend(self, layer: int, query: torch.Tensor, scaling: float, capping: "Capping") -> torch.Tensor:
        done, outputs, device = 0, [], query.device
        for number, segment in enumerate(self.segments):
            part = query[None, :, done : done + len(segment.tokens)]
            done += len(segment.tokens)
            end = segment.start + len(segment.tokens)
            first = _first_seen(segment.positions[0], self.windows[layer])
            key, value = (
                torch.cat(
                    [kept[layer][0] for kept in shared] + [own[layer][segment.row, :, :end]],
                    dim=1,
                )[None, :, first:]
                for shared, own in (
                    ([block.keys for block in segment.shared], self.block.keys),
                    ([block.values for block in segment.shared], self.block.values),
                )
            )
            window = self.windows[layer]
            mask = self._mask((number, window), device, lambda s=segment, w=window: _causal(s.positions, w, device))
            outputs.append(_attention(part, key, value, mask, scaling, capping)[0].transpose(0, 1))
        return torch.cat(outputs)


class DecodeStep(ForwardPass):
    """One token of each row. The rows' keys are at the start of the block, so that they are never copied.

    If `is_rounded`, there are some rows and columns more, so that most steps have the shapes of the one before. A row
    of padding is a first token in a place of the block that no other row has, and attends to itself.
    """

    def __init__(
        self, block: KVBlock, segments: Sequence[Segment], windows: Sequence[int | None], is_rounded: bool = False
    ) -> None:
        here = len(segments)
        padding = range(here, rounded_up(here) if is_rounded else here)
        super().__init__(block, [*segments, *(Segment(row, 0, 0, [0], []) for row in padding)], windows)
        self._own = max(segment.start for segment in segments) + 1
        self._shared = max(segment.base for segment in segments)
        position = min(segment.positions[0] for segment in segments)
        self._first = {window: min(_first_seen(position, window), self._shared) for window in windows}
        if is_rounded:
            self._own = min(rounded_up(self._own, COLUMNS), block.capacity)
            self._first = {window: first // COLUMNS * COLUMNS for window, first in self._first.items()}
        rows: dict[KVBlock, tuple[int, list[int]]] = {}
        for number, segment in enumerate(segments):
            start = 0
            for one in segment.shared:
                rows.setdefault(one, (start, []))[1].append(number)
                start += one.capacity
        self._prefixes: list[tuple[KVBlock, int, int | None]] = []
        "Each with its first column, and the number of its group of rows; None for all rows."
        groups: list[list[int]] = []
        for one, (start, mine) in rows.items():
            self._prefixes.append((one, start, None if len(mine) == here else len(groups)))
            groups += [] if len(mine) == here else [mine]
        self._columns += groups
        lengths = tuple(map(len, self._columns))
        self.shape = (lengths, self._own, self._shared, tuple(self._first.items()), tuple(self._prefixes))
        "All that decides which kernels run on which memory of a block: steps of one shape differ in their numbers."

    def attend(self, layer: int, query: torch.Tensor, scaling: float, capping: "Capping") -> torch.Tensor:
        count, window = query.shape[1], self.windows[layer]
        keys, values = (kept[layer][:count, :, : self._own] for kept in (self.block.keys, self.block.values))
        grouped = (query.transpose(0, 1) * scaling).reshape(count, keys.shape[1], -1, query.shape[-1])
        first = self._first[window]
        split = self._shared - first  # the scores' columns: prefixes from `first` on, then the rows' own
        scores = grouped.new_empty(*grouped.shape[:3], split + self._own)
        scores[..., split:] = grouped @ keys.transpose(-1, -2)
        seen = []
        for block, start, group in self._prefixes:
            begin, end = max(start, first), start + block.capacity
            if begin < end:
                rows = slice(None) if group is None else self._groups[group].to(query.device)
                seen.append((block, begin - start, slice(begin - first, end - first), rows))
        for block, begin, columns, rows in seen:
            key = block.keys[layer][0, :, begin:].transpose(-1, -2)
            scores[rows, :, :, columns] = _all_rows_times(grouped[rows], key)
        mask = self._mask(window, query.device, lambda: self._visible(window, first))
        weights = capping.weights(scores, mask[:, None, None]).to(values.dtype)
        output = weights[..., split:] @ values
        for block, begin, columns, rows in seen:
            output[rows] += _all_rows_times(weights[rows, :, :, columns], block.values[layer][0, :, begin:])
        return output.flatten(1, 2)

    def _visible(self, window: int | None, first: int) -> torch.Tensor:
        """Whether a row attends to a column of its scores, [rows, columns]."""
        position, device = self.positions[:, None], self.positions.device
        base = position - self._places[:, None]
        shared = torch.arange(first, self._shared, device=device)[None]
        own = base + torch.arange(self._own, device=device)[None]
        seen = torch.cat([shared < base, own <= position], dim=1)
        return (
            seen
            if window is None
            else seen & (torch.cat([shared.expand_as(seen[:, : shared.shape[1]]), own], 1) > position - window)
        )


@dataclass
class Capping:
    """Changes that some models make to attention scores, besides softmax."""

    softcap: float | None = None
    "Scores are bounded by softcap * tanh(scores / softcap), as in Gemma 2."
    sinks: torch.Tensor | None = None
    "One more score for each head, [heads], that takes a share of the softmax and adds nothing, as in GPT-OSS."

    def weights(self, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Softmax in float32 of scores [rows, key heads, queries of one key head, columns] where the mask is true."""
        scores = scores.float()
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        scores = scores.masked_fill(~mask, -torch.inf)
        if self.sinks is None:
            return scores.softmax(-1)
        sinks = self.sinks.float().reshape(1, scores.shape[1], -1, 1).expand(*scores.shape[:3], 1)
        return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float, capping: Capping
) -> torch.Tensor:
    """Attention of [1, heads, tokens, size] to [1, key heads, columns, size] where [tokens, columns] is true."""
    if capping.softcap is None and capping.sinks is None:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
        )
    heads, (_, every, tokens, size) = key.shape[1], query.shape
    grouped = (query[0] * scaling).reshape(heads, -1, tokens, size).transpose(0, 2).transpose(1, 2)
    scores = torch.einsum("thgd,hcd->thgc", grouped, key[0])
    weights = capping.weights(scores, mask[:, None, None]).to(value.dtype)
    return torch.einsum("thgc,hcd->thgd", weights, value[0]).reshape(1, tokens, every, -1).transpose(1, 2)


def _all_rows_times(rows: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """[rows, heads, queries, a] times [heads, a, b], shared by all rows, as one matrix product for each head."""
    count, heads, queries, _ = rows.shape
    product = rows.transpose(0, 1).reshape(heads, count * queries, -1) @ shared
    return product.reshape(heads, count, queries, -1).transpose(0, 1)


def _first_seen(position: int, window: int | None) -> int:
    """The first position that a token attends to; a window includes the token itself."""
    return 0 if window is None else max(0, position - window + 1)


def _causal(positions: range, window: int | None, device: torch.device) -> torch.Tensor:
    """Whether each of these positions attends to each position from the first visible one on, [positions, columns]."""
    own = torch.arange(positions.start, positions.stop, device=device)[:, None]
    others = torch.arange(_first_seen(positions[0], window), positions.stop, device=device)[None]
    return others <= own if window is None else (others <= own) & (others > own - window)


_step: ContextVar[ForwardPass] = ContextVar("step")


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: queries [1, heads, tokens, size] to outputs [1, tokens, heads, value size]."""
    if position_bias is not None:
        raise ValueError("its attention adds a learned position bias")
    if attention_mask is not None:
        raise ValueError("its layers make masks of their own")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    step = _step.get()
    step.write(module.layer_idx, key, value)
    return step.attend(module.layer_idx, query[0], scale, Capping(softcap, s_aux))[None], None


AttentionInterface.register(ATTENTION, _attend)


@contextmanager
def attention_of(configs: Sequence[Any], step: ForwardPass) -> Iterator[None]:
    """Let the model attend as the step says within the block, and as before after it."""
    before = [config._attn_implementation for config in configs]
    token = _step.set(step)
    try:
        for config in configs:
            config._attn_implementation = ATTENTION
        yield
    finally:
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = implementation
        _step.reset(token)
