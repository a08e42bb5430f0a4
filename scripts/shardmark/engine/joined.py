"""A batch that rows join and leave at any step, over keys and values that are kept once for each shared prefix.

Which token sees which is joined_attention.py's; all the rest of a forward pass is the model's own code.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from transformers import Cache, DynamicCache

from shardmark.engine.joined_attention import Block, Reading, Segment, Step, Writing, attention_of
from shardmark.engine.loading import input_device
from shardmark.engine.prefixes import Prefix

READ_TOKENS = {"cpu": 512, "cuda": 4096}
"Tokens of prompts in one prefill pass: more gain no speed, but take memory."


class JoinedRow(Protocol):
    """What a batch must know of a row."""

    prefix: Prefix | None
    "The part of the row that it shares with others."
    sequence: list[int]
    "The prompt and what has been written."
    room: int
    "The tokens that the sequence may come to have."


class _NoCache(Cache):
    """What the model takes for its cache: it keeps nothing, so that attention is given the new keys and values alone.

    They are kept there, because what a model puts into its cache may be something else: DeepSeek V3 puts in what it
    makes keys and values of afterwards.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(layers=DynamicCache(config=config).layers)

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        return key_states, value_states


class JoinedBatch:
    """The rows that are being written with a model, and the keys and values that they need."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.rows: list[Any] = []
        "JoinedRow's, in the order of the logits."
        self.windows = [getattr(layer, "sliding_window", None) for layer in DynamicCache(config=model.config).layers]
        configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
        self._configs = list(configs.values())
        self._block = Block(0, 0)
        self._prefixes: dict[Prefix, Block] = {}

    @property
    def shared_tokens(self) -> int:
        """Tokens of the prefixes that are kept."""
        return sum(block.capacity for block in self._prefixes.values())

    @property
    def capacity(self) -> int:
        """Tokens that each row has place for, beside its prefixes."""
        return self._block.capacity

    @torch.inference_mode()
    def join(self, rows: Sequence[Any], tokens: int | None = None) -> None:
        """Read all but the last token of new rows, in prefill passes of bounded size; then they can be decoded."""
        for row in rows:
            self._read_prefix(row.prefix, tokens)
        every = [*self.rows, *rows]
        capacity = max(_own_room(row) for row in every)
        if capacity > self._block.capacity or 2 * capacity < self._block.capacity or len(every) > self._block.rows:
            self._block.resize(len(every), capacity, len(self.rows))
        segments = [self._segment(place, row) for place, row in enumerate(every)][len(self.rows) :]
        for segment in segments:
            segment.start, segment.tokens = 0, every[segment.row].sequence[segment.base : -1]
        self._read(self._block, segments, tokens)
        self.rows = every

    @torch.inference_mode()
    def write(self) -> torch.Tensor:
        """Each row's logits after its newest token, [rows, vocabulary]."""
        step = Writing(self._block, [self._segment(n, row) for n, row in enumerate(self.rows)], self.windows)
        return self._forward(self.model, step).logits[0]

    @torch.inference_mode()
    def leave(self, gone: Sequence[int]) -> None:
        """Take rows out by their number. The last ones move into their places."""
        for number in sorted(gone, reverse=True):
            last = len(self.rows) - 1
            self._block.move(last, number)
            self.rows[number] = self.rows[last]
            self.rows.pop()

    def forget(self, prefix: Prefix) -> None:
        """Give back a prefix that no row needs any more."""
        self._prefixes.pop(prefix, None)

    def clear(self) -> None:
        """Give back everything."""
        self.rows, self._block, self._prefixes = [], Block(0, 0), {}

    def _read_prefix(self, prefix: Prefix | None, tokens: int | None) -> None:
        if prefix is None or prefix in self._prefixes:
            return
        self._read_prefix(prefix.parent, tokens)
        block = Block(1, len(prefix.tokens))
        self._read(block, [Segment(0, prefix.start, 0, list(prefix.tokens), self._blocks(prefix.parent))], tokens)
        self._prefixes[prefix] = block

    def _blocks(self, prefix: Prefix | None) -> list[Block]:
        return [self._prefixes[part] for part in reversed(list(prefix.chain()))] if prefix else []

    def _segment(self, place: int, row: Any) -> Segment:
        """The row's newest token."""
        base = row.prefix.end if row.prefix else 0
        return Segment(place, base, len(row.sequence) - 1 - base, row.sequence[-1:], self._blocks(row.prefix))

    def _read(self, block: Block, segments: list[Segment], tokens: int | None) -> None:
        here = READ_TOKENS.get(input_device(self.model).type, READ_TOKENS["cuda"])
        most = max(1, min(tokens or here, here))
        body = self.model.base_model  # the output layer is not needed
        for line in _lines(segments, most):
            self._forward(body, Reading(block, line, self.windows))

    def _forward(self, body: Any, step: Step) -> Any:
        device = input_device(self.model)
        with attention_of(self._configs, step):
            return body(
                input_ids=torch.tensor([step.tokens], device=device),
                position_ids=torch.tensor([step.positions], device=device),
                past_key_values=_NoCache(self.model.config),
                use_cache=True,
            )


def _own_room(row: Any) -> int:
    """Tokens a row needs place for, beside its prefixes; the last one written is never read."""
    return max(1, row.room - (row.prefix.end if row.prefix else 0))


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
