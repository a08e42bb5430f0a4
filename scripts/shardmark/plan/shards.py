"""Requests in shards, the unit of scheduling.

A sample's bucket is the leading bits of a hash, not its place in the file, so that an inserted or removed row leaves
the other buckets as they are; and the number of buckets is a power of two, so that a data set that outgrows it splits
each bucket in two. A shard's name is the digest of its request ids: the same requests are the same shard.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass

from shardmark.files import digest
from shardmark.tasks import Request, Sample

HASH_BITS = 32


@dataclass(frozen=True)
class Shard:
    """Requests that one job answers, by id, in the order of their ids."""

    name: str
    requests: dict[str, Request]


def bucket_bits(samples: int, max_shard_size: int) -> int:
    """The number of leading hash bits that make buckets of at most about `max_shard_size` samples."""
    return max(0, (-(-samples // max_shard_size) - 1).bit_length())


def make_shards(samples: list[Sample], max_shard_size: int, by_id: bool) -> list[Shard]:
    """The samples' requests, each once, in shards sorted by name.

    With `by_id` the bucket follows the sample's id, so that an edited row stays in its shard; else its content.
    """
    bits = bucket_bits(len(samples), max_shard_size)
    buckets: dict[int, dict[str, Request]] = defaultdict(dict)
    placed: set[str] = set()
    for sample in sorted(samples, key=lambda s: (s.request_id, s.id)):
        if sample.request_id not in placed:  # a question that two rows share is asked once
            placed.add(sample.request_id)
            buckets[_bucket(sample.id if by_id else sample.request_id, bits)][sample.request_id] = sample.request
    return sorted((Shard(digest(list(r)), r) for r in buckets.values()), key=lambda shard: shard.name)


def _bucket(key: str, bits: int) -> int:
    leading = int.from_bytes(hashlib.sha256(key.encode(errors="surrogatepass")).digest()[: HASH_BITS // 8])
    return leading >> (HASH_BITS - bits)
