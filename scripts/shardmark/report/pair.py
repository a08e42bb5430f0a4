"""A model on a data set: the scores, with the file of its samples."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from shardmark.records.score import Scores
from shardmark.records.timings import Timings


@dataclass(frozen=True)
class Pair:
    """A model on a data set; samples is None if the samples were not given."""

    scores: Scores
    samples: Path | None
    timings: Timings | None = None

    @property
    def link(self) -> str | None:
        """The address of the pair's samples, relative to the report; None without samples."""
        return samples_link(self.scores.dataset.name, self.scores.model.name) if self.samples else None


def samples_link(dataset: str, model: str, sample: str = "") -> str:
    """The address of a model's samples, or of one of them, in the explorer, relative to the report."""
    keys = {"dataset": dataset, "model": model} | ({"sample": sample} if sample else {})
    return f"samples.html#{urlencode(keys, quote_via=quote)}"
