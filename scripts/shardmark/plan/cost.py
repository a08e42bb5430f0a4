"""How long a shard will take: from what the same model took before, else from a prior.

The prior counts floating-point operations: 2 x parameters for a token of the prompt, at a rate that this kind of
device reaches (FLOPS); a generated token costs as many but runs at GENERATION_SHARE of the rate, because a batch is
read from memory for each. It is meant to be right within a factor of a few; the second run measures.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shardmark.tasks import characters

CHARACTERS_PER_TOKEN = 4
FLOPS = {"cpu": 5e10, "gpu": 5e13}
GENERATION_SHARE = 0.1
UNKNOWN_WEIGHTS = 2_000_000_000
"Bytes assumed for a model on the Hub that is not there yet."
LOAD_SECONDS = 10.0
"Starting a process and loading a small model; weights add to it at READ_BYTES_PER_SECOND."
READ_BYTES_PER_SECOND = 5e8


def work(requests: Iterable[Any]) -> dict[str, int]:
    """The tokens to read and to write for some requests, estimated from their text."""
    requests = list(requests)
    return {
        "read": sum(map(characters, requests)) // CHARACTERS_PER_TOKEN,
        "written": sum(request.get("max_new_tokens", 0) for request in requests),
    }


def prior_seconds(model: dict[str, Any], shard: dict[str, Any]) -> float:
    """Seconds of inference for a shard of a model that has not been measured."""
    size = model["source"]["bytes"] or UNKNOWN_WEIGHTS
    parameters = size / (4 if model["dtype"] == "float32" else 2)
    rate = FLOPS["gpu" if model["settings"]["num_gpus"] else "cpu"]
    return 2 * parameters * (shard["read"] + shard["written"] / GENERATION_SHARE) / rate


def load_seconds(model: dict[str, Any]) -> float:
    """Seconds until a job of this model answers its first request."""
    return LOAD_SECONDS + (model["source"]["bytes"] or UNKNOWN_WEIGHTS) / READ_BYTES_PER_SECOND


class Measured:
    """Seconds per request of finished shards, by data set, as their trailers tell."""

    def __init__(self, trailers: dict[str, list[dict[str, Any]]]) -> None:
        self._rates = {
            dataset: sum(t["seconds"] for t in found) / sum(t["inferred"] for t in found)
            for dataset, found in trailers.items()
            if sum(t["inferred"] for t in found)
        }

    def seconds(self, dataset: str, requests: int) -> float | None:
        """Expected seconds of inference for so many requests, or None if the data set was never measured."""
        rate = self._rates.get(dataset)
        return None if rate is None else rate * requests


def predictions_folder(results: Path, model: dict[str, Any]) -> Path:
    """Where the predictions of a model are."""
    return results / "predictions" / f"{model['name']}@{model['digest']}"
