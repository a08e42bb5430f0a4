"""Scored rows of a request, and its prediction from their scores: the same wherever a model runs."""

import math
from collections.abc import Sequence
from dataclasses import replace

from shardmark.engine.tokenization import Wording
from shardmark.engine.tokens import LogLikelihood, ScoredRow, fit_window, rolling_windows
from shardmark.records.prediction import Scored
from shardmark.records.request import RollingRequest, ScoredRequest
from shardmark.tasks.chat_templates import WordingError


def scored_rows(wording: Wording, request: ScoredRequest, window: int) -> list[ScoredRow]:
    """A row for each pair of a choice, or for each window of a text. Raises WordingError."""
    if isinstance(request, RollingRequest):
        rows = rolling_windows(*wording.whole(request.text), window)
        if not rows:
            raise WordingError("the text has no tokens", "leave such rows out with `where`")
        return rows
    pairs = [wording.pair(*pair) for pair in request.pairs]
    contexts = [context for context, _ in request.pairs if context]
    opened = any(wording.opened(context) for context in contexts[:1])
    for (_, continuation), (_, text) in zip(pairs, request.pairs, strict=True):
        if not continuation:
            why = " of the model's tokenizer" if text else ""
            raise WordingError(f"the choice {text!r} has no token{why}", "fix the data set's choices")
    sent = wording.sent(request)
    return [replace(fit_window(*pair, window), opened=opened, sent=sent) for pair in pairs]


def scored_prediction(key: str, request: ScoredRequest, values: Sequence[tuple[ScoredRow, LogLikelihood]]) -> Scored:
    """The prediction of a request from the scores of its rows, in order."""
    if isinstance(request, RollingRequest):  # the text as a whole is scored as if it were the only choice
        return Scored(
            id=key,
            logprobs=[math.fsum(logprob for _, (logprob, _) in values)],
            tokens=[sum(len(row.scored) for row, _ in values)],
            greedy=[all(greedy for _, (_, greedy) in values)],
            cut=0,
        )
    return Scored(
        id=key,
        logprobs=[logprob for _, (logprob, _) in values],
        tokens=[len(row.scored) for row, _ in values],
        greedy=[greedy for _, (_, greedy) in values],
        cut=max(row.cut for row, _ in values),
        alone=sum(row.alone for row, _ in values),
        opened=any(row.opened for row, _ in values),
        sent=values[0][0].sent,
    )
