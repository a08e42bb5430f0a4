"""Answers to requests made by hand."""

from typing import Any

from shardmark.records.prediction import Generated, Scored


def wrote(key: str, text: str = "?", **more: Any) -> Generated:
    """A text in answer to the request with this id."""
    return Generated(**({"id": key, "text": text, "tokens": 1, "end": "eos", "cut": 0} | more))


def scored(key: str, *logprobs: float, greedy: int = -1, **more: Any) -> Scored:
    """Log-likelihoods of choices, each of one token; `greedy` is the choice that the model would have written."""
    flags = [number == greedy for number in range(len(logprobs))]
    facts = {"tokens": [1] * len(logprobs), "greedy": flags, "cut": 0}
    return Scored(id=key, logprobs=list(logprobs), **(facts | more))
