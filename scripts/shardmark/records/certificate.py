"""A certificate: how far two models, or two ways to run one, agree (results/certificates/{model}--{model}.json)."""

from typing import Any

from shardmark.records.base import Record


class Scoring(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far log-likelihoods agree; differences are absolute, of natural logarithms summed over each choice."""

    requests: int
    choices: int
    largest: float
    "The largest difference."
    mean: float
    percentile: float
    "99% of the differences are at most this."
    same_best: int
    "Requests for which both models find the same choice the likeliest."
    same_greedy: int
    "Choices for which both agree on whether the model itself would have written them."


class Writing(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far generated texts agree."""

    requests: int
    "Greedy and sampled ones; every sample of a request counts."
    equal: int
    "How many texts are identical."
    first: int | None
    "The position of the earliest token at which two texts differ, from 0; None if none does."
    median: float | None
    "The median of these positions over the texts that differ."
    unit: str
    "The unit of positions: token, or character where there is no tokenizer."


class Agreement(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far two sets of answers to the same requests agree; None for a kind of request that was not asked."""

    scoring: Scoring | None
    writing: Writing | None

    @property
    def whole(self) -> bool:
        """Whether nothing differs but the rounding of log-likelihoods, which changes no choice."""
        scored, written = self.scoring, self.writing
        return (scored is None or scored.same_best == scored.requests) and (
            written is None or written.equal == written.requests
        )


class Party(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the two models, and its answers when asked again in other batches and another order."""

    name: str
    digest: str
    backend: str
    source: str
    packages: dict[str, str]
    hardware: dict[str, Any]
    apart: Agreement
    "The agreement of its answers to all requests in one batch with those to the same requests in small shards."


class Certificate(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far two models agree on requests of a run's data sets."""

    made: str
    "ISO 8601, UTC."
    datasets: dict[str, int]
    "How many requests were asked of each data set."
    parties: tuple[Party, Party]
    between: Agreement
