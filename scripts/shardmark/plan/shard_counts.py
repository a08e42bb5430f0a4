"""The number of shards of a data set for a model: enough that none takes too long or holds too much.

This depends on the expected cost of the model, and so on measurements that change. Therefore a decision is kept while
there are answers to its shards: dividing anew would infer nothing, but move every answer for no gain.

results/plans/divisions/{model}@{digest}.json stores the decisions; jobs read there which shards a score is made of.
"""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from shardmark import layout
from shardmark.config import RunConfig
from shardmark.files import canonical_json, read_sealed, sealed, write_whole
from shardmark.plan.cost import Costs
from shardmark.plan.shards import HASH_BITS, bits_for
from shardmark.records.base import Record, Unreadable, convert, to_json
from shardmark.records.dataset import DatasetRecord
from shardmark.records.model import ModelRecord


class Division(Record):
    """The division of a data set for a model."""

    bits: Annotated[int, Meta(ge=0, le=HASH_BITS)]
    "Leading bits that make the buckets."
    requests: int
    "The number of requests at that time."


class Divisions:
    """The decisions for one model under one run's limits."""

    def __init__(self, results: Path, model: str, run: RunConfig) -> None:
        self.path = layout.DIVISIONS.file(results, model=model)
        self._limits = [run.model_dump()["limit"], run.max_shard_cost, run.max_shard_size]
        self._known = self._read()
        self._decided: dict[str, Division] = {}

    def _read(self) -> dict[str, Division]:
        """The decisions in the file; none if it is lost or damaged, so that they are made again."""
        try:
            return convert(read_sealed(self.path), dict[str, Division])
        except Unreadable:
            return {}

    def bits(self, dataset: str) -> int:
        """The number of leading bits decided on for a data set. Raises KeyError if there is none."""
        return self._known[self._key(dataset)].bits

    def decide(
        self, model: ModelRecord, dataset: DatasetRecord, costs: Costs, run: RunConfig, has_answers: bool
    ) -> int:
        """The number of leading bits for a data set; `has_answers` says whether shards of it are on disk."""
        key, requests = self._key(dataset.name), dataset.requests
        known = self._known.get(key)
        if known and has_answers and known.requests / 2 < requests <= 2 * known.requests:
            return known.bits
        cost = costs.predict(model, dataset.name, dataset.kind, dataset, requests).inference
        bits = bits_for(max(requests / run.max_shard_size, cost / run.max_shard_cost))
        decided = Division(bits=bits, requests=requests)
        if decided != known:
            self._known[key] = self._decided[key] = decided
        return bits

    def save(self) -> None:
        """Write new decisions beside those of other runs since, whose jobs also read the file."""
        if self._decided:
            write_whole(self.path, canonical_json(sealed(to_json(self._read() | self._decided))) + "\n")

    def _key(self, dataset: str) -> str:
        return canonical_json([dataset, *self._limits])
