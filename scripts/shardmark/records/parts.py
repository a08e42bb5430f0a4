"""The parts that scores are made of, and which of them differ between two scores."""

from collections.abc import Iterator, Mapping
from typing import Any

from shardmark.files import digest
from shardmark.records.base import Record, to_json
from shardmark.records.model import ModelRecord

UNKNOWN = "unknown"
"The name of a part whose digest an earlier version did not note."
DESCRIBED = {
    "rows": "which rows are asked about",
    "revision": "the content of the rows",
    "template": "the prompt's template",
    "few_shot": "the examples in prompts",
    "generation": "the settings of generation",
    "filters": "the filters",
    "metrics": "the metrics",
    "version": "the data set's version",
    "protocol": "how Shardmark makes prompts and scores",
    "code": "the task's own code",
    "model revision": "the weights",
    "model tokenizer": "the tokenizer",
    "model adapter": "the adapter",
    "model settings": "the model's settings",
    "model protocol": "how the engine answers",
    "another model": "what the model's name stands for",
    "another data set": "what the data set's name stands for",
    "shardmark": "Shardmark's version, and nothing else that is noted",
    "answers": "nothing that is noted: other answers to the same",
}
"A description of each part in words."


class Cause(Record, frozen=True, kw_only=True):
    """A part of a score's inputs that has changed, with its digest before and after."""

    part: str
    before: str
    after: str

    @property
    def what(self) -> str:
        """The part in words."""
        return DESCRIBED.get(self.part, self.part)


def differing(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Cause]:
    """The parts whose digests differ; none if one side has no digests."""
    if before and after:
        for part in [*after, *(part for part in before if part not in after)]:
            digests = before.get(part, UNKNOWN), after.get(part, UNKNOWN)
            if digests[0] != digests[1]:
                yield Cause(part=part, before=digests[0], after=digests[1])


def model_components(record: ModelRecord) -> dict[str, str]:
    """A digest of each part of a model that can change its answers."""
    settings, files = record.settings, {"revision": record.source, "tokenizer": record.tokenizer}
    parts: dict[str, Any] = {
        **{part: to_json(place.identity) for part, place in files.items() if place},
        **({"adapter": to_json(record.adapter.identity)} if record.adapter else {}),
        "settings": settings.identity(),
        "protocol": [settings.backend, settings.protocol],
    }
    return {part: digest(value) for part, value in parts.items()}
