"""The timings of a score file: what differs from run to run, with a checksum of the samples."""

import msgspec

from shardmark.records.base import Record


class Timings(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Wall-clock seconds of one pair's inference and of loading the model; times are ISO 8601, UTC."""

    shards: list[str] = msgspec.field(default_factory=list)
    "Version 0.1 had them elsewhere."
    seconds: float
    load_seconds: float
    predicted_seconds: float = 0.0
    "What inference was expected to take before it began; 0 if that was not noted."
    requests: int
    "How many were answered, without those whose answers were taken from other runs."
    reused: int
    started: str
    finished: str
    batch_size: int | str
    samples_sha256: str | None = None
    "SHA-256 of the file of samples."

    @property
    def requests_per_second(self) -> float | None:
        """Requests answered a second, loading left out; None if inference took no time."""
        return self.requests / self.seconds if self.seconds else None
