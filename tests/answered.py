"""Answers to requests made by hand."""

from typing import Any

from shardmark.records.prediction import Generated, Scored
from shardmark.records.trailer import Made, Work


def wrote(key: str, text: str = "?", **more: Any) -> Generated:
    """A text in answer to the request with this id."""
    return Generated(**({"id": key, "text": text, "tokens": 1, "end": "eos", "cut": 0} | more))


def scored(key: str, *logprobs: float, greedy: int = -1, **more: Any) -> Scored:
    """Log-likelihoods of choices, each of one token; `greedy` is the choice that the model would have written."""
    flags = [number == greedy for number in range(len(logprobs))]
    facts = {"tokens": [1] * len(logprobs), "greedy": flags, "cut": 0}
    return Scored(id=key, logprobs=list(logprobs), **(facts | more))


def made(**facts: Any) -> Made:
    """How a job has made the predictions of a file; one request in a second, unless more is said."""
    usual: dict[str, Any] = {
        "inferred": 1,
        "reused": 0,
        "seconds": 1.0,
        "load_seconds": 1.0,
        "work": Work(read=10, written=10),
        "started": "2026-11-25T00:00:00+00:00",
        "finished": "2026-11-25T00:00:02+00:00",
        "batch_size": "auto",
        "hardware": {},
        "packages": {},
    }
    return Made(**(usual | facts))
