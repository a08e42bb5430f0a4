"""The shards of a data set: the requests that one job answers."""

from shardmark.records.base import Record


class ShardRecord(Record, kw_only=True):
    """A shard of a data set, and the work of its requests (see `Work`)."""

    name: str
    "The digest of the ids of its requests."
    requests: int
    "How many requests it has."
    read: int
    written: int
    longest: int = 0
    "Version 0.1 did not note it."


class ShardLists(Record, kw_only=True):
    """Every division into shards that a data set has had (results/tasks/*.shards.json), with its own checksum."""

    levels: dict[str, list[ShardRecord]]
    "By the number of leading bits that determine the buckets."

    def level(self, bits: int) -> list[ShardRecord]:
        """The shards of a division. Raises KeyError if it was never made."""
        return self.levels[str(bits)]
