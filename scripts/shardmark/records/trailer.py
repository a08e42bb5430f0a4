"""The last line of a prediction file: how its predictions were made, and the checks that the file is whole."""

from typing import Any

import msgspec

from shardmark.records.base import Record, Sparse
from shardmark.records.engine import EngineUse
from shardmark.records.shared import Taken, distinct


class Work(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The work of some requests, in tokens estimated from their text."""

    read: int
    "Tokens of the prompts; a beginning that all share counts once."
    written: int
    "At most this many new tokens."
    longest: int = 0
    "Tokens of the longest answer."


class Made(Sparse, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the predictions of a shard were made. Keys that have their default value are left out."""

    inferred: int
    "How many predictions the job itself made."
    reused: int
    "How many predictions existed before."
    seconds: float
    "Wall-clock time of inference."
    load_seconds: float
    "Time to load the model; 0 if it was loaded already."
    work: Work | None = None
    "The work of the requests that were inferred. Version 0.1 did not note it."
    predicted_seconds: float = 0.0
    "The expected time of inference, estimated before it began, if anything was inferred."
    gpus: list[str] | None = None
    "The ids of the GPUs, if the model was loaded."
    gpu_names: list[str] | None = None
    started: str
    "ISO 8601, UTC."
    finished: str
    batch_size: int | str
    hardware: dict[str, Any]
    packages: dict[str, str]
    "Versions of the packages that the model was run with."
    engines: list[EngineUse] = msgspec.field(default_factory=list)
    "The engines that answered, if the model's backend has several."
    taken: list[Taken] = msgspec.field(default_factory=list)
    "The sources of the answers that came from a shared store."


def reused(trailer: "Trailer", count: int, taken: list[Taken]) -> Made:
    """How `count` predictions were made that all come from other files (or parts of one) with this trailer."""
    return Made(
        inferred=0,
        reused=count,
        seconds=0.0,
        load_seconds=0.0,
        work=Work(read=0, written=0),
        gpus=trailer.gpus,
        gpu_names=trailer.gpu_names,
        started=trailer.started,
        finished=trailer.finished,
        batch_size=trailer.batch_size,
        hardware=trailer.hardware,
        packages=trailer.packages,
        engines=trailer.engines,
        taken=taken,
    )


def both(first: Made, second: Made) -> Made:
    """How the predictions of a shard were made if two engines shared it, one after the other."""
    works = [made.work for made in (first, second) if made.work]
    return Made(
        inferred=first.inferred + second.inferred,
        reused=second.reused - first.inferred,
        seconds=first.seconds + second.seconds,
        load_seconds=first.load_seconds + second.load_seconds,
        work=Work(
            read=sum(each.read for each in works),
            written=sum(each.written for each in works),
            longest=max((each.longest for each in works), default=0),
        ),
        predicted_seconds=first.predicted_seconds + second.predicted_seconds,
        gpus=second.gpus or first.gpus,
        gpu_names=second.gpu_names or first.gpu_names,
        started=first.started,
        finished=second.finished,
        batch_size=second.batch_size,
        hardware=second.hardware,
        packages={
            name: " and ".join(dict.fromkeys(each[name] for each in (first.packages, second.packages) if name in each))
            for name in first.packages | second.packages
        },
        engines=[*first.engines, *second.engines],
        taken=distinct([*first.taken, *second.taken]),
    )


class Trailer(Made, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The facts of `Made`, and the identity and checksum of the file that it ends."""

    shard: str
    "The name of the shard."
    model: str = ""
    "The digest of the model that made these predictions. Version 0.1 did not note it."
    answers: int = 1
    "The version of the engine that gave the answers (ANSWERS in store/predictions.py)."
    count: int
    "The number of lines before this one."
    sha256: str
    "SHA-256 of these lines and of this line's other keys."
