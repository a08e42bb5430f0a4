"""Requests in shards, the unit of scheduling.

A request's bucket is the leading bits of a hash, not its place in the file, so that an inserted or removed row leaves
the other buckets as they are. The number of buckets is a power of two, so that a data set that outgrows it splits each
bucket in two. A shard's name is the digest of its request ids: the same requests are the same shard.

Requests that begin with the same long text, such as questions about one passage, have the same hash and so one shard,
in which the engine reads that text once. The common beginning of all prompts of a data set is no such text and is left
out. A text that begins very many requests is read by several shards: it would otherwise make a shard that cannot be
split.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shardmark.files import digest
from shardmark.records.request import Request
from shardmark.tasks.requests import as_text

HASH_BITS = 32
PREFIX = 512
"The number of characters, after the data set's common head, that prompts with a shared long prefix agree in."
GROUP = 64
"The most requests kept together because of their prefix."


class Placed(NamedTuple):
    """A request in a file of JSON lines, and its place among the buckets."""

    id: str
    key: int
    "HASH_BITS bits; their leading ones are the bucket."
    read: int
    "Estimated tokens of the prompt, without the part that all prompts of the data set share."
    written: int
    "The most new tokens."
    offset: int
    length: int
    "Offset and length of its line, in bytes."


@dataclass(frozen=True)
class Shard:
    """Requests that one job answers, in the order of their ids."""

    bucket: int
    requests: list[Placed]

    @property
    def name(self) -> str:
        """The digest of the request ids."""
        return digest([request.id for request in self.requests])


def bits_for(parts: float) -> int:
    """The number of leading bits that make at least `parts` buckets (any number, even below 1)."""
    bits = 0
    while bits < HASH_BITS and 1 << bits < parts:
        bits += 1
    return bits


def prefix_key(request: Request, head: int) -> int | None:
    """A hash of the long text after the `head` characters that all requests share; None if the text is short."""
    text = as_text(request.context)
    if len(text) < head + PREFIX:
        return None
    return _leading(hashlib.sha256(text[head : head + PREFIX].encode(errors="surrogatepass")).digest())


def request_key(request_id: str) -> int:
    """The key of a request that is placed by itself."""
    return _leading(bytes.fromhex(request_id[: HASH_BITS // 4]))


def _leading(value: bytes) -> int:
    return int.from_bytes(value[: HASH_BITS // 8])


def keys(ids: Sequence[str], prefixes: Sequence[int | None]) -> list[int]:
    """The key of each request: that of its long prefix, unless too many requests share it."""
    sizes = Counter(prefixes)
    return [
        request_key(name) if prefix is None or sizes[prefix] > GROUP else prefix
        for name, prefix in zip(ids, prefixes, strict=True)
    ]


def split(requests: Iterable[Placed], bits: int) -> list[Shard]:
    """The requests, all different, in at most 2**bits shards; sorted by bucket, and by id within."""
    buckets: dict[int, list[Placed]] = defaultdict(list)
    for request in requests:
        buckets[request.key >> (HASH_BITS - bits)].append(request)
    return [Shard(bucket, sorted(buckets[bucket])) for bucket in sorted(buckets)]
