"""Continuous batching: rows join and leave at any step, over a KV cache that holds each shared prefix once.

continuous_attention.py decides which tokens attend to which; the rest of a forward pass is the model's own code.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from transformers import Cache, DynamicCache, PreTrainedConfig, PreTrainedModel

from shardmark.engine.prefixes import Prefix
from shardmark.engine.transformers.continuous_attention import (
    COLUMNS,
    DecodeStep,
    ForwardPass,
    KVBlock,
    Prefill,
    Segment,
    attention_of,
    rounded_up,
)
from shardmark.engine.transformers.decode_graphs import DecodeGraphs
from shardmark.engine.transformers.loading import input_device
from shardmark.engine.transformers.logits import hidden_states
from shardmark.engine.transformers.screening import Screen

PREFILL_TOKENS = {"cpu": 512, "cuda": 4096}
"The most tokens of prompts in one prefill pass: more are no faster, but take memory."
LEAST_GROWTH, GROWTH = 64, 4
"The KV cache grows by this many tokens per row, or by one part in GROWTH of its size, if that is more."


class BatchRow(Protocol):
    """The attributes of a row that a batch needs."""

    prefix: Prefix | None
    "The part of the row that it shares with others."
    sequence: list[int]
    "The prompt and the tokens generated so far."
    max_length: int
    "The most tokens that the sequence may come to have."

    @property
    def takes_largest(self) -> bool:
        """Whether only the largest logit matters now."""


class _NoCache(Cache):
    """The cache that the model is given. It stores nothing, so that attention receives only the new keys and values.

    These are stored in the attention interface, because a model may put something else into its cache: DeepSeek V3 puts
    in a compressed form from which it computes keys and values later.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(layers=DynamicCache(config=config).layers)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        return key_states, value_states


class ContinuousBatch:
    """The rows that a model is generating for, and their KV cache."""

    def __init__(
        self, model: PreTrainedModel, graphs: DecodeGraphs | None = None, screen: Screen | None = None
    ) -> None:
        """With `graphs`, decode steps are replayed from CUDA graphs where they have the shapes of earlier ones.

        With `screen`, it replaces the output layer where only the largest logits matter.
        """
        self.model, self._screen = model, screen
        self._graphs = graphs or DecodeGraphs(model, fault="none are wanted")
        model.base_model.warn_if_padding_and_no_attention_mask = _no_warning
        self.rows: list[Any] = []
        "BatchRows, in the order of the logits."
        self.windows = [getattr(layer, "sliding_window", None) for layer in DynamicCache(config=model.config).layers]
        configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
        self._configs = list(configs.values())
        self._block = KVBlock(0, 0)
        self._prefixes: dict[Prefix, KVBlock] = {}

    @property
    def shared_tokens(self) -> int:
        """Tokens of all stored prefixes."""
        return sum(block.capacity for block in self._prefixes.values())

    @property
    def capacity(self) -> int:
        """Tokens per row that the KV cache has room for now, without those of shared prefixes."""
        return self._block.capacity

    @torch.inference_mode()
    def join(self, rows: Sequence[Any], tokens: int | None = None) -> None:
        """Prefill all but the last token of new rows, in passes of bounded size; a decode step runs the last one."""
        for row in rows:
            self._prefill_prefix(row.prefix, tokens)
        every = [*self.rows, *rows]
        capacity = self._room(every)
        if 2 * capacity < self._block.capacity or len(every) > self._block.rows or not self._fits(every):
            self._resize(every)
        segments = [self._segment(place, row) for place, row in enumerate(every)][len(self.rows) :]
        for segment in segments:
            segment.start, segment.tokens = 0, every[segment.row].sequence[segment.base : -1]
        self._prefill(self._block, segments, tokens)
        self.rows = every

    @torch.inference_mode()
    def decode_step(self) -> torch.Tensor:
        """Run the newest token of each row; returns the logits after it, [rows, vocabulary].

        Where rows take the largest, others may be -inf. The next step may overwrite them.
        """
        if not self._fits(self.rows):
            self._resize(self.rows)
        segments = [self._segment(n, row) for n, row in enumerate(self.rows)]
        step = DecodeStep(self._block, segments, self.windows, self._is_rounded)
        screen = self._screen if self._screen and all(row.takes_largest for row in self.rows) else None

        def run() -> torch.Tensor:
            if screen is None:
                return self._forward(self.model, step).logits[0]
            return screen.logits(self._forward(partial(hidden_states, self.model), step)[0])

        return self._graphs.logits(step, input_device(self.model), run)[: len(self.rows)]

    @torch.inference_mode()
    def leave(self, gone: Sequence[int]) -> None:
        """Remove rows by their number. The last rows move into their places."""
        for number in sorted(gone, reverse=True):
            last = len(self.rows) - 1
            self._block.move(last, number)
            self.rows[number] = self.rows[last]
            self.rows.pop()

    def drop_prefix(self, prefix: Prefix) -> None:
        """Free the KV cache of a prefix that no row needs any more."""
        if self._prefixes.pop(prefix, None):
            self._graphs.drop()

    def clear(self) -> None:
        """Drop all rows and free their KV cache."""
        self._graphs.drop()
        self.rows, self._block, self._prefixes = [], KVBlock(0, 0), {}

    @property
    def _is_rounded(self) -> bool:
        """Whether steps are rounded up to shapes that come again."""
        return self._graphs.fault is None

    def _resize(self, rows: Sequence[BatchRow]) -> None:
        """Make room for rows, of which those in the batch are the first."""
        count = rounded_up(len(rows)) if self._is_rounded else len(rows)
        self._block.resize(count, self._room(rows), len(self.rows))
        self._graphs.drop()

    def _room(self, rows: Sequence[BatchRow]) -> int:
        """The capacity per row for a KV cache: the present tokens and some more, at most what rows may come to have.

        The last token that a row generates is never run, but even a row that may generate none has one.
        """
        now = max(map(_own_tokens, rows))
        most = max(_own_tokens(row) + row.max_length - len(row.sequence) for row in rows)
        room = now + max(LEAST_GROWTH, now // GROWTH)
        return max(now, min(most, rounded_up(room, COLUMNS) if self._is_rounded else room))

    def _fits(self, rows: Sequence[BatchRow]) -> bool:
        """Whether the KV cache has room for the present tokens of the rows."""
        return max(map(_own_tokens, rows)) <= self._block.capacity

    def _prefill_prefix(self, prefix: Prefix | None, tokens: int | None) -> None:
        if prefix is None or prefix in self._prefixes:
            return
        self._prefill_prefix(prefix.parent, tokens)
        block = KVBlock(1, len(prefix.tokens))
        self._prefill(block, [Segment(0, prefix.start, 0, list(prefix.tokens), self._blocks(prefix.parent))], tokens)
        self._prefixes[prefix] = block

    def _blocks(self, prefix: Prefix | None) -> list[KVBlock]:
        return [self._prefixes[part] for part in reversed(list(prefix.chain()))] if prefix else []

    def _segment(self, place: int, row: BatchRow) -> Segment:
        """The segment of the row's newest token."""
        base = row.prefix.end if row.prefix else 0
        return Segment(place, base, len(row.sequence) - 1 - base, row.sequence[-1:], self._blocks(row.prefix))

    def _prefill(self, block: KVBlock, segments: list[Segment], tokens: int | None) -> None:
        here = PREFILL_TOKENS.get(input_device(self.model).type, PREFILL_TOKENS["cuda"])
        most = max(1, min(tokens or here, here))
        body = self.model.base_model  # the output layer is not needed
        device = input_device(self.model)
        for line in _lines(segments, most):
            step = Prefill(block, line, self.windows)
            step.read(step.numbers(device).to(device, non_blocking=True))
            self._forward(body, step)

    def _forward(self, run: Callable[..., Any], step: ForwardPass) -> Any:
        with attention_of(self._configs, step):
            return run(
                input_ids=step.tokens[None],
                position_ids=step.positions[None],
                past_key_values=_NoCache(self.model.config),
                use_cache=True,
            )


def _own_tokens(row: BatchRow) -> int:
    """Present tokens of a row, without its prefixes."""
    return len(row.sequence) - (row.prefix.end if row.prefix else 0)


def _no_warning(*_: object) -> None:
    """Instead of GPT-2's check for padding, which would wait for the device in each pass: there is none in a line."""


def _lines(segments: Sequence[Segment], most: int) -> Iterator[list[Segment]]:
    """Segments in lines of a bounded number of tokens; a longer segment is cut, with its parts in order."""
    line: list[Segment] = []
    free = most
    for segment in segments:
        tokens, start = segment.tokens, segment.start
        while tokens:
            part, tokens = tokens[:free], tokens[free:]
            line.append(Segment(segment.row, segment.base, start, part, segment.shared))
            start, free = start + len(part), free - len(part)
            if not free:
                yield line
                line, free = [], most
    if line:
        yield line
