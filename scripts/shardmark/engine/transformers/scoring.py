"""Scores of rows: through the token tree, or in padded batches if the model cannot share prefixes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from shardmark.engine.batches import OutOfMemoryError, is_out_of_memory
from shardmark.engine.tokens import LogLikelihood, ScoredRow
from shardmark.engine.transformers.logits import log_likelihoods, plain_output_layer, sliced_log_likelihoods
from shardmark.engine.transformers.memory import activation_bytes, cache_bytes, free_for, logits_bytes
from shardmark.engine.transformers.packed import PackedLinear
from shardmark.engine.transformers.padded import ScoringModel, padded_results
from shardmark.engine.transformers.sharing import last_mlp_of, lengths_matter, why_not_shared
from shardmark.engine.transformers.tree_forward import MOST_TOKENS, Kept, chunk_logits, chunk_states
from shardmark.engine.tree import Budget, Chunk, TokenTree

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.5
"The share of the free memory to plan with; the rest is for what the estimate misses."
CACHED_BYTES, CACHED_TOKENS = 36 << 20, 128
"On a CPU, the bytes of activations that fit its caches bound the new tokens, but not below this number."
LEAST_TOKENS = 16
"The fewest new tokens: with fewer, a pass is hardly smaller. If memory runs out, they are halved all the same."
MOST_LOGITS = {"cpu": 128 << 20, "cuda": 1 << 30}
"The most bytes of logits in one forward pass."
POOLED_OUTPUTS, POOLED_FORWARDS = 512, 16
"""On a CPU, the output layer waits for so many positions, since its product is slow with few, but for no more forwards:
what waits is lost if the process is killed."""
POOLED_SHARE = 0.1
"The least share of a model's weights that an output layer which waits has. Others' forwards are long, and it is not."


class Scorer:
    """Scores rows with a loaded model. The model's abilities are checked once."""

    def __init__(self, backend: ScoringModel) -> None:
        self.backend = backend
        self._shares: bool | None = None
        self._head: nn.Module | None = None
        self._last_mlp: nn.Module | None = None
        self._forwards = 1

    def results(self, rows: Sequence[ScoredRow]) -> Iterator[list[tuple[int, LogLikelihood]]]:
        """Row numbers with their scores, each once, as soon as they are ready.

        Raises OutOfMemoryError with the number of a row that does not fit alone.
        """
        if not rows:
            return
        if self.shares():
            longest = max(len(row.inputs) for row in rows)
            budget = scoring_budget(self.backend, self.backend.batch_size, longest)
            if self._head:
                budget.outputs = budget.tokens
            forwards = self._forwards if self.backend.batch_size == "auto" else 1
            yield from tree_results(self.backend, rows, budget, self._head, self._last_mlp, forwards)
            return
        same_length = lengths_matter(self.backend.model.config.get_text_config(), self.backend.window)
        limit = self.backend.limit(self.backend.batch_size, self.backend.batch_padding and not same_length)
        yield from padded_results(self.backend, rows, limit)

    def shares(self) -> bool:
        """Whether this model shares prefixes. If not, the log says why."""
        if self._shares is None:
            reason = why_not_shared(self.backend.model, self.backend.window)
            self._shares = reason is None
            self._head = None if reason else plain_output_layer(self.backend.model)
            self._last_mlp = last_mlp_of(self.backend.model) if self._head else None
            if self._head and _share(self.backend.model, self._head) >= POOLED_SHARE:
                self._forwards = POOLED_FORWARDS
            if reason:
                log.warning("scoring each prompt by itself, because this model cannot share prefixes: %s", reason)
        return self._shares


def _share(model: nn.Module, layer: nn.Module) -> float:
    """The share of a model's weights that a linear layer has."""
    packed = sum(one.in_features * one.out_features for one in model.modules() if isinstance(one, PackedLinear))
    weights = sum(weight.numel() for weight in model.parameters()) + packed
    return int(layer.in_features) * int(layer.out_features) / weights


def scoring_budget(backend: ScoringModel, batch_size: int | str, longest: int) -> Budget:
    """The bound on forward passes that fits into free memory; a number as `batch_size` also bounds their branches.

    A path, at most as long as the longest row, is in memory twice: before and after the pass.
    """
    model, kind = backend.model, backend.device.type
    free = int(MEMORY_SHARE * free_for(model))
    logits = min(MOST_LOGITS.get(kind, 1 << 30), free // 4)
    room = free - logits - 2 * longest * cache_bytes(model)
    one = activation_bytes(model) + cache_bytes(model)
    most = MOST_TOKENS.get(kind, 8192)
    if kind == "cpu":
        most = min(most, max(CACHED_TOKENS, CACHED_BYTES // one))
    return Budget(
        tokens=min(max(room // one, LEAST_TOKENS), most),
        outputs=max(1, logits // (logits_bytes(model) or 1)),
        rows=None if batch_size == "auto" else int(batch_size),
    )


def tree_results(
    backend: ScoringModel,
    rows: Sequence[ScoredRow],
    budget: Budget,
    head: nn.Module | None = None,
    last_mlp: nn.Module | None = None,
    forwards: int = 1,
) -> Iterator[list[tuple[int, LogLikelihood]]]:
    """Scores of rows through the token tree, in the order of the tree.

    With a plain output layer as `head`, it runs after up to `forwards` passes, for all their positions at once, and the
    last layer's MLP, if given, only at these positions.
    """
    tree = TokenTree(rows)
    log.info("%d tokens, of which %d are distinct prefixes", sum(len(row.inputs) for row in rows), len(tree))
    values, best = np.full(len(tree.slot_place), np.nan), np.zeros(len(tree.slot_place), dtype=bool)
    start, done, path, kept = 0, 0, np.zeros(0, dtype=np.int64), Kept()
    waiting: list[tuple[Chunk, torch.Tensor]] = []

    def finished() -> list[tuple[int, LogLikelihood]]:
        nonlocal done
        if head and waiting:
            slots = slice(waiting[0][0].slots.start, waiting[-1][0].slots.stop)
            values[slots], best[slots] = _pooled(head, waiting)
            waiting.clear()
        first, done = done, int(np.searchsorted(tree.last, start))
        return [
            (tree.order[n], (float(values[tree.row_slots[n]].sum()), bool(best[tree.row_slots[n]].all())))
            for n in range(first, done)
        ]

    try:
        while start < len(tree):
            chunk = tree.chunk(start, path, budget)
            found = _unless_out_of_memory(lambda c=chunk, k=kept: _run(backend.model, c, k, head, last_mlp))  # type: ignore[misc]
            if found is None:
                if chunk.stop - start == 1:
                    raise OutOfMemoryError(tree.order[int(np.searchsorted(tree.last, start))])
                budget.halve(chunk.stop - start)
                log.warning("out of memory with %d tokens; continuing with %d", chunk.stop - start, budget.tokens)
                backend.free()
                continue
            if head:
                states, kept = found
                waiting.append((chunk, states))
            else:
                values[chunk.slots], best[chunk.slots], kept = found
            start, path = chunk.stop, tree.path_after(chunk, path)
            if not head or _is_due(waiting, forwards):
                yield finished()
    except Exception:
        yield finished()  # else what waits would be computed again
        raise
    if waiting:
        yield finished()


def _is_due(waiting: Sequence[tuple[Chunk, torch.Tensor]], forwards: int) -> bool:
    return len(waiting) >= forwards or sum(len(states) for _, states in waiting) >= POOLED_OUTPUTS


@torch.inference_mode()
def _run(
    model: PreTrainedModel, chunk: Chunk, kept: Kept, head: nn.Module | None, last_mlp: nn.Module | None
) -> tuple[Any, ...]:
    """The chunk's values, whether each is the argmax, and the keys and values kept for the next chunk.

    With a `head`, the inputs of the output layer in place of the first two.
    """
    if head:
        states, kept = chunk_states(model, chunk, kept, last_mlp)
        return states[torch.from_numpy(chunk.outputs)], kept
    logits, kept = chunk_logits(model, chunk, kept)
    if not len(chunk.slot_outputs):
        return np.zeros(0), np.zeros(0, dtype=bool), kept
    values, best = log_likelihoods(logits, torch.from_numpy(chunk.slot_outputs), torch.from_numpy(chunk.slot_targets))
    return values.double().numpy(), best.numpy(), kept


@torch.inference_mode()
def _pooled(head: nn.Module, waiting: Sequence[tuple[Chunk, torch.Tensor]]) -> tuple[Any, Any]:
    """The values of several chunks, and whether each is the argmax, from their inputs of the output layer."""
    before = np.cumsum([0, *(len(states) for _, states in waiting)])
    outputs = np.concatenate([n + chunk.slot_outputs for n, (chunk, _) in zip(before, waiting, strict=False)])
    targets = np.concatenate([chunk.slot_targets for chunk, _ in waiting])
    if not len(targets):
        return np.zeros(0), np.zeros(0, dtype=bool)
    states = torch.cat([states for _, states in waiting])
    values, best = sliced_log_likelihoods(head, states, torch.from_numpy(outputs), torch.from_numpy(targets))
    return values.double().numpy(), best.numpy()


def _unless_out_of_memory(run: Callable[[], Any]) -> Any:
    """The result of a function; None if memory ran out. By then the exception is gone, and so is the memory it held."""
    try:
        return run()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
