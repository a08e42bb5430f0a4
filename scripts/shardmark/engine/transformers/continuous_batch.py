"""Continuous batching: rows join and leave at any step, over a KV cache that holds each shared prefix once.

Which token sees which is continuous_attention.py's; all the rest of a forward pass is the model's own code.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from transformers import Cache, DynamicCache, PreTrainedConfig, PreTrainedModel

from shardmark.engine.prefixes import Prefix
from shardmark.engine.transformers.continuous_attention import (
    DecodeStep,
    ForwardPass,
    KVBlock,
    Prefill,
    Segment,
    attention_of,
)
from shardmark.engine.transformers.loading import input_device

PREFILL_TOKENS = {"cpu": 512, "cuda": 4096}
"Tokens of prompts in one prefill pass: more gain no speed, but take memory."


class BatchRow(Protocol):
    """What a batch must know of a row."""

    prefix: Prefix | None
    "The part of the row that it shares with others."
    sequence: list[int]
    "The prompt and the tokens generated so far."
    max_length: int
    "The most tokens that the sequence may come to have."


class _NoCache(Cache):
    """What the model takes for its cache: it keeps nothing, so that attention is given the new keys and values alone.

    They are kept there, because what a model puts into its cache may be something else: DeepSeek V3 puts in what it
    makes keys and values of afterwards.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(layers=DynamicCache(config=config).layers)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        return key_states, value_states


class ContinuousBatch:
    """The rows that a model generates for at the moment, and their KV cache."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.rows: list[Any] = []
        "BatchRow's, in the order of the logits."
        self.windows = [getattr(layer, "sliding_window", None) for layer in DynamicCache(config=model.config).layers]
        configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
        self._configs = list(configs.values())
        self._block = KVBlock(0, 0)
        self._prefixes: dict[Prefix, KVBlock] = {}

    @property
    def shared_tokens(self) -> int:
        """Tokens of the prefixes that are kept."""
        return sum(block.capacity for block in self._prefixes.values())

    @property
    def capacity(self) -> int:
        """Tokens that the KV cache has room for in each row, without those of shared prefixes."""
        return self._block.capacity

    @torch.inference_mode()
    def join(self, rows: Sequence[Any], tokens: int | None = None) -> None:
        """Prefill all but the last token of new rows, in passes of bounded size; the last one is for a decode step."""
        for row in rows:
            self._prefill_prefix(row.prefix, tokens)
        every = [*self.rows, *rows]
        capacity = max(_own_length(row) for row in every)
        if capacity > self._block.capacity or 2 * capacity < self._block.capacity or len(every) > self._block.rows:
            self._block.resize(len(every), capacity, len(self.rows))
        segments = [self._segment(place, row) for place, row in enumerate(every)][len(self.rows) :]
        for segment in segments:
            segment.start, segment.tokens = 0, every[segment.row].sequence[segment.base : -1]
        self._prefill(self._block, segments, tokens)
        self.rows = every

    @torch.inference_mode()
    def decode_step(self) -> torch.Tensor:
        """Run the newest token of each row; the logits after it, [rows, vocabulary]."""
        step = DecodeStep(self._block, [self._segment(n, row) for n, row in enumerate(self.rows)], self.windows)
        return self._forward(self.model, step).logits[0]

    @torch.inference_mode()
    def leave(self, gone: Sequence[int]) -> None:
        """Take rows out by their number. The last ones move into their places."""
        for number in sorted(gone, reverse=True):
            last = len(self.rows) - 1
            self._block.move(last, number)
            self.rows[number] = self.rows[last]
            self.rows.pop()

    def drop_prefix(self, prefix: Prefix) -> None:
        """Free the KV cache of a prefix that no row needs any more."""
        self._prefixes.pop(prefix, None)

    def clear(self) -> None:
        """Drop all rows and free their KV cache."""
        self.rows, self._block, self._prefixes = [], KVBlock(0, 0), {}

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
        """The row's newest token."""
        base = row.prefix.end if row.prefix else 0
        return Segment(place, base, len(row.sequence) - 1 - base, row.sequence[-1:], self._blocks(row.prefix))

    def _prefill(self, block: KVBlock, segments: list[Segment], tokens: int | None) -> None:
        here = PREFILL_TOKENS.get(input_device(self.model).type, PREFILL_TOKENS["cuda"])
        most = max(1, min(tokens or here, here))
        body = self.model.base_model  # the output layer is not needed
        for line in _lines(segments, most):
            self._forward(body, Prefill(block, line, self.windows))

    def _forward(self, body: PreTrainedModel, step: ForwardPass) -> Any:
        device = input_device(self.model)
        with attention_of(self._configs, step):
            return body(
                input_ids=torch.tensor([step.tokens], device=device),
                position_ids=torch.tensor([step.positions], device=device),
                past_key_values=_NoCache(self.model.config),
                use_cache=True,
            )


def _own_length(row: BatchRow) -> int:
    """Tokens that a row needs KV cache for, beside its prefixes; the last one generated is never run."""
    return max(1, row.max_length - (row.prefix.end if row.prefix else 0))


def _lines(segments: Sequence[Segment], most: int) -> Iterator[list[Segment]]:
    """Segments in lines of a bounded number of tokens; one that is longer is cut, its parts in order."""
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
