"""Answers from a shared store: who computed them, and the headers of the store's entries."""

from collections.abc import Iterable
from typing import Any

from shardmark.records.base import Record


class Taken(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The source of answers taken from a shared store: who computed them, and with what."""

    by: str
    "User and machine, by the names they give themselves."
    key: str
    "The fingerprint of the key that signs the entries."
    store: str
    "The store's address."
    shardmark: str
    "The version of Shardmark that stored them, with its commit."
    packages: dict[str, str]
    "Versions of the packages that the model was run with."
    hardware: dict[str, Any]
    gpus: list[str]
    "The names of the GPUs."

    @property
    def text(self) -> str:
        """A description for the report."""
        machine = " + ".join(self.gpus) or str(self.hardware.get("cpu") or "")
        versions = ", ".join(f"{name} {version}" for name, version in sorted(self.packages.items()))
        details = "; ".join(part for part in (machine, versions, f"Shardmark {self.shardmark}") if part)
        return f"{self.by} ({details}), from {self.store}"


def distinct(found: Iterable[Taken]) -> list[Taken]:
    """Each one once, in their order."""
    known: list[Taken] = []
    known.extend(each for each in found if each not in known)
    return known


class EntryHeader(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line of an entry of a shared store; what follows is a prediction file."""

    store: int
    "The version of the store's format."
    by: str
    "As in `Taken`, as are the next two."
    key: str
    shardmark: str
    model: str
    "The digest of the model."
    name: str
    "The owner's name for the model."
    dataset: str
    shard: str
    ids: str
    "The first digits of each request's id, concatenated: they show what is answered without reading the whole entry."
    sha256: str
    "SHA-256 of the prediction file."
    signature: str
    "HMAC-SHA256 of all other keys, with the owner's key."
