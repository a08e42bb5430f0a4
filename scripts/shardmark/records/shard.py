"""The shards of a data set: which requests are answered by one job."""

from shardmark.records.base import Record


class ShardRecord(Record, kw_only=True):
    """A shard of a data set, and what its requests take (see `Work`)."""

    name: str
    "The digest of the ids of its requests."
    requests: int
    "How many."
    read: int
    written: int
    longest: int = 0
    "Version 0.1 did not note it."


class ShardLists(Record, kw_only=True):
    """Each division that a data set has had (results/tasks/*.shards.json), in a file with a checksum of itself."""

    levels: dict[str, list[ShardRecord]]
    "By the number of leading bits that make the buckets."

    def level(self, bits: int) -> list[ShardRecord]:
        """The shards of a division. Raises KeyError for one that was never made."""
        return self.levels[str(bits)]
