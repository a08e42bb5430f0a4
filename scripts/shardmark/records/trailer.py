"""The last line of a prediction file: how its predictions were made, and what it must be to be whole."""

from typing import Any

from shardmark.records.base import Record, Sparse


class Work(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What some requests take, in tokens that are estimated from their text."""

    read: int
    "Tokens of the prompts; what all begin with counts once."
    written: int
    "New tokens, at most."
    longest: int = 0
    "Those of the longest answer."


class Made(Sparse, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the predictions of a shard were made. Keys with a default are left out where they have it."""

    inferred: int
    "How many the job itself has made."
    reused: int
    "How many were there before."
    seconds: float
    "Of inference, by the wall clock."
    load_seconds: float
    "Of loading the model; 0 if it was loaded."
    work: Work | None = None
    "Of the requests that were inferred. Version 0.1 did not note it."
    predicted_seconds: float = 0.0
    "What inference was expected to take before it began, if anything was inferred."
    gpus: list[str] | None = None
    "The ids of the devices, if the model was loaded."
    gpu_names: list[str] | None = None
    started: str
    "ISO 8601, UTC."
    finished: str
    batch_size: int | str
    hardware: dict[str, Any]
    packages: dict[str, str]
    "Versions of what the model was run with."


class Trailer(Made, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What `Made` says, and which file it ends."""

    shard: str
    "The name of the file."
    model: str = ""
    "The digest of the model whose predictions these are. Version 0.1 did not note it."
    answers: int = 1
    "Which version of the engine gave the answers (ANSWERS in store/predictions.py)."
    count: int
    "Of the lines before this one."
    sha256: str
    "Of these lines and the other keys of this one."
