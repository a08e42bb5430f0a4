"""A model on a data set: the scores, with the file of its samples."""

from collections.abc import Iterable
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
        return samples_link(self.scores.dataset.name, [self.scores.model.name]) if self.samples else None


def samples_link(dataset: str, models: Iterable[str], sample: str = "", **more: str) -> str:
    """The address of samples in the explorer, relative to the report; `more` as in docs/report.md."""
    keys = [("dataset", dataset), *(("model", model) for model in models), *more.items()]
    return f"samples.html#{urlencode([*keys, *([('sample', sample)] if sample else [])], quote_via=quote)}"
