"""The timings of a score file: everything that varies from run to run, with a checksum of the samples."""

import msgspec
from msgspec.structs import replace

from shardmark.records.base import Record


class Usage(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An endpoint's own account of its work on all answers of a pair."""

    read: int
    "Tokens of prompts."
    written: int
    "Tokens of answers, thoughts included."
    money: float | None = None
    """The cost at the price in the model's file when it was scored, without that of requests whose answers were not
    used; None without a price."""
    served: dict[str, int]
    "How many requests each model answered, as the endpoint names it, with its provider and fingerprint after spaces."
    uncounted: int = 0
    "How many answers lack a complete or believable count of tokens: the sums above lack them."

    def priced(self, price: tuple[float, float]) -> "Usage":
        """The same with its cost at a price of a million tokens of prompts and of answers."""
        return replace(self, money=(self.read * price[0] + self.written * price[1]) / 1e6)


class Timings(Record, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Wall-clock seconds of one pair's inference and of loading the model; times are ISO 8601, UTC."""

    shards: list[str] = msgspec.field(default_factory=list)
    "Version 0.1 had them in another file."
    seconds: float
    load_seconds: float
    predicted_seconds: float = 0.0
    "The expected time of inference, estimated before it began; 0 if it was not noted."
    requests: int
    "How many were answered, without those whose answers were taken from other runs."
    reused: int
    started: str
    finished: str
    batch_size: int | str
    parameters: int | None = None
    "The number of the model's parameters, if known."
    usage: Usage | None = None
    "For a model behind an endpoint."
    samples_sha256: str | None = None
    "SHA-256 of the samples file."

    @property
    def requests_per_second(self) -> float | None:
        """Requests answered per second, without loading; None if inference took no time."""
        return self.requests / self.seconds if self.seconds else None
