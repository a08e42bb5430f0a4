"""Scoring in padded batches, for models that cannot share prefixes."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from shardmark.engine.batches import Batches, Limit
from shardmark.engine.tokens import LogLikelihood, ScoredRow
from shardmark.engine.transformers.batching_support import forget_lengths
from shardmark.engine.transformers.logits import log_likelihoods, logits_at


class ScoringModel(Protocol):
    """The interface of a TransformersModel that scoring needs."""

    model: PreTrainedModel
    batch_size: int | str
    batch_padding: bool
    window: int
    pad: int

    @property
    def device(self) -> torch.device:
        """The device for inputs."""

    def limit(self, batch_size: int | str, padding: bool, new_tokens: int = 0) -> Limit:
        """The bound on batches."""

    def free(self) -> None:
        """Release cached memory of the device."""


def padded_results(
    backend: ScoringModel, rows: Sequence[ScoredRow], limit: Limit
) -> Iterator[list[tuple[int, LogLikelihood]]]:
    """Row numbers with their scores, as soon as they are ready. Raises OutOfMemoryError with a row number."""
    batches = Batches[int, LogLikelihood](
        length=lambda n: len(rows[n].inputs),
        run=lambda batch: score_padded(backend, [rows[n] for n in batch]),
        limit=limit,
        free=backend.free,
    )
    yield from batches.results(range(len(rows)))


@torch.inference_mode()
def score_padded(backend: ScoringModel, rows: Sequence[ScoredRow]) -> list[LogLikelihood]:
    """The scores of some rows in one batch.

    The batch is padded on the right: causal attention then never sees the padding, and a recurrent state meets it last.
    """
    forget_lengths(backend.model)
    inputs = pad_sequence([torch.tensor(row.inputs) for row in rows], batch_first=True, padding_value=backend.pad)
    mask = pad_sequence([torch.ones(len(row.inputs), dtype=torch.long) for row in rows], batch_first=True)
    counts = [len(row.scored) for row in rows]
    where = [
        (n, position)
        for n, row in enumerate(rows)
        for position in range(len(row.inputs) - len(row.scored), len(row.inputs))
    ]
    at, positions = torch.tensor(where).unbind(1)
    device = backend.device
    arguments = {"input_ids": inputs.to(device), "attention_mask": mask.to(device), "use_cache": False}
    logits = logits_at(backend.model, at, positions, **arguments)
    targets = torch.tensor([token for row in rows for token in row.scored])
    values, best = log_likelihoods(logits, torch.arange(len(targets)), targets)
    return [
        (float(v.double().sum()), bool(b.all())) for v, b in zip(values.split(counts), best.split(counts), strict=True)
    ]
