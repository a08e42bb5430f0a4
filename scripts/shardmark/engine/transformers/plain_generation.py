"""Generation with transformers' generate, for models whose rows cannot join or leave a running batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from shardmark.engine.batches import Batches, Limit
from shardmark.engine.generation import Answer, GenerateRow, RunningRow, next_tokens
from shardmark.engine.transformers.batching_support import forget_lengths
from shardmark.engine.transformers.loading import input_device
from shardmark.engine.transformers.logits import relative_difference


@dataclass
class PlainGeneration:
    """Runs rows through generate in batches that begin and end together, padded on the left."""

    model: Any
    tokenizer: Any
    ends: Sequence[int]
    "Tokens that end a text."
    pad: int
    limit: Limit
    free: Callable[[], None] = lambda: None
    "Called before a smaller batch is tried, to release cached memory."

    def results(self, rows: Sequence[GenerateRow]) -> Iterator[list[tuple[GenerateRow, Answer]]]:
        """Rows with their answers, a batch at a time. Raises OutOfMemoryError with the row."""
        groups: dict[int, list[GenerateRow]] = {}
        for row in rows:  # without padding, prompts must have one length, not their sums with new tokens
            groups.setdefault(0 if self.limit.padding else len(row.inputs), []).append(row)
        limit = Limit(self.limit.rows, self.limit.tokens)
        batches = Batches[GenerateRow, Answer](lambda row: row.length, self._generate, limit, self.free)
        for group in groups.values():
            yield from batches.results(group)

    @torch.inference_mode()
    def _generate(self, rows: Sequence[GenerateRow]) -> list[Answer]:
        forget_lengths(self.model)
        choosing = _Choosing([RunningRow(row, self.tokenizer, self.ends) for row in rows], self.pad)
        self.model.generate(
            **_padded_left([row.inputs for row in rows], self.pad, input_device(self.model)),
            generation_config=GenerationConfig(
                max_new_tokens=max(row.max_new_tokens for row in rows), do_sample=False, pad_token_id=self.pad
            ),
            logits_processor=LogitsProcessorList([choosing]),
            stopping_criteria=StoppingCriteriaList([_AllAnswered(choosing)]),
        )
        return [choosing.answers[n] for n in range(len(rows))]


def _padded_left(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> dict[str, torch.Tensor]:
    """The inputs of a model for some rows of tokens."""
    longest = max(map(len, rows))
    inputs = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return {"input_ids": inputs, "attention_mask": mask}


@torch.inference_mode()
def batch_difference(model: Any, pad: int, lengths: Sequence[int]) -> float:
    """The largest difference of the logits of rows in one batch and alone, relative to the largest logit.

    A model may count padding as positions, or mix up the states of rows. The first two tokens after each row count.
    """
    size = len(model.get_input_embeddings().weight)
    rows = [[(7 * n + 3 * length + row) % size for n in range(length)] for row, length in enumerate(lengths)]

    def logits(rows: Sequence[Sequence[int]]) -> torch.Tensor:
        made = model.generate(
            **_padded_left(rows, pad, input_device(model)),
            generation_config=GenerationConfig(max_new_tokens=2, do_sample=False, pad_token_id=pad),
            logits_processor=LogitsProcessorList([_always_the_first]),
            return_dict_in_generate=True,
            output_logits=True,
        )
        return torch.stack(made.logits)

    return relative_difference(logits(rows), torch.cat([logits([row]) for row in rows], dim=1))


def _always_the_first(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Chooses one token whatever the logits are."""
    chosen = torch.full_like(scores, -torch.inf)
    chosen[:, 0] = 0
    return chosen


class _Choosing(LogitsProcessor):
    """Chooses each row's token as the running batch does: generate, which takes the largest logit, has no choice."""

    def __init__(self, rows: Sequence[RunningRow], pad: int) -> None:
        self.rows, self.pad = rows, pad
        self.answers: dict[int, Answer] = {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        going = [n for n in range(len(self.rows)) if n not in self.answers]
        tokens = [self.pad] * len(self.rows)
        for n, (token, finite) in zip(going, next_tokens(scores[going], [self.rows[n] for n in going]), strict=True):
            tokens[n] = token
            answer = self.rows[n].take(token, finite)
            if answer:
                self.answers[n] = answer
        chosen = torch.full_like(scores, -torch.inf)
        chosen[range(len(tokens)), tokens] = 0
        return chosen


class _AllAnswered(StoppingCriteria):
    """Ends a row when it has its answer."""

    def __init__(self, choosing: _Choosing) -> None:
        self.choosing = choosing

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> Any:
        done = [n in self.choosing.answers for n in range(len(input_ids))]
        return torch.tensor(done, device=input_ids.device)
