"""Data sets that ask about the same rows: variants of one with other prompts, filters or numbers of examples.

Their scores are compared row by row for one model, and they count as one data set in a mean, since together they are no
more evidence than one of them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, TemplateError, meta

from .pair import Pair
from .sample_scores import Rows, read_rows

ENOUGH = 20
"This many right answers in a row are seldom equal by chance."
SHARE = 0.5
"More than this share of the smaller data set's rows must be in the other."


class SameRows:
    """The data sets of a run that share rows; reads the samples of one model if the sources are the same."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._pairs: dict[str, list[Pair]] = {}
        for pair in pairs:
            self._pairs.setdefault(pair.scores.dataset.name, []).append(pair)
        self._rows: dict[str, Rows | None] = {}
        self._places: dict[tuple[str, str], tuple[list[int], list[int]] | None] = {}
        self.sets = list(self._found())
        "The sets of at least two data sets, in the order of the data sets."

    def set_of(self, dataset: str) -> tuple[str, ...]:
        """The data sets that ask about the same rows as one, including itself."""
        return next((names for names in self.sets if dataset in names), (dataset,))

    def aligned(self, one: str, other: str) -> tuple[list[int], list[int]] | None:
        """The positions of the same rows in two data sets; None if samples are unknown, or none is shared."""
        if (one, other) not in self._places:
            self._places[one, other] = self._align(one, other)
        return self._places[one, other]

    def _align(self, one: str, other: str) -> tuple[list[int], list[int]] | None:
        here, there = self._read(one), self._read(other)
        if here is None or there is None:
            return None
        places = {key: place for place, key in enumerate(there.keys)}
        shared = [(place, places[key]) for place, key in enumerate(here.keys) if key in places]
        if not shared and _same_order(here, there):
            shared = [(place, place) for place in range(len(here.names))]
        return ([place for place, _ in shared], [place for _, place in shared]) if shared else None

    def _found(self) -> Iterable[tuple[str, ...]]:
        alike: dict[str, list[Pair]] = {}
        for first, *_ in self._pairs.values():
            if first.scores.provenance.rows:
                alike.setdefault(_source(first), []).append(first)
        for pairs in alike.values():
            sets: list[list[Pair]] = []
            for pair in pairs:
                mine = next((each for each in sets if self._shared(each[0], pair)), None)
                if mine is None:
                    sets.append([pair])
                else:
                    mine.append(pair)
            yield from (tuple(pair.scores.dataset.name for pair in each) for each in sets if len(each) > 1)

    def _shared(self, one: Pair, other: Pair) -> bool:
        asked = [_asked_for(pair) for pair in (one, other)]
        if all(asked) and not asked[0] & asked[1]:
            return False
        names = [pair.scores.dataset.name for pair in (one, other)]
        here, there = (self._read(name) for name in names)
        if here is None or there is None:
            parts = [pair.scores.provenance.components for pair in (one, other)]
            return all(parts[0].get(key) == parts[1].get(key) is not None for key in ("rows", "revision"))
        smaller = min(len(here.keys), len(there.keys))
        return len({*here.keys} & {*there.keys}) > SHARE * smaller or _same_order(here, there)

    def _read(self, dataset: str) -> Rows | None:
        if dataset not in self._rows:
            files = [pair.samples for pair in self._pairs.get(dataset, ()) if pair.samples]
            self._rows[dataset] = read_rows(files[0]) if files else None
        return self._rows[dataset]


def _source(pair: Pair) -> str:
    """The origin of the rows, and the metric: only data sets that agree in these are compared."""
    rows = {key: value for key, value in pair.scores.provenance.rows.items() if key != "few_shot"}
    main = pair.scores.main
    return json.dumps([rows, pair.scores.primary, main.percent, main.higher_is_better], sort_keys=True, default=str)


def _same_order(one: Rows, other: Rows) -> bool:
    """Whether samples have the same names and the same right answers, although their rows differ.

    Tasks with other rows of one source number them in the same way, and few right answers may be equal by chance.
    """
    return len(one.names) >= ENOUGH and one.names == other.names and one.targets == other.targets


def _asked_for(pair: Pair) -> set[str]:
    """The columns that a data set's right answers come from; empty if unknown."""
    settings: dict[str, Any] = pair.scores.provenance.config.get("dataset", {})
    try:
        return meta.find_undeclared_variables(Environment().parse(str(settings.get("target") or "")))
    except TemplateError:
        return set()


def weights_and_names(
    datasets: Sequence[str], same: SameRows, given: Mapping[str, float]
) -> tuple[list[float], list[str]]:
    """The weight of each data set in a mean, and the name of its set of data sets that ask about the same rows.

    Each has its `given` weight, or 1, divided by the size of its set.
    """
    sets = [tuple(name for name in same.set_of(dataset) if name in datasets) for dataset in datasets]
    weights = [given.get(dataset, 1.0) / len(names) for dataset, names in zip(datasets, sets, strict=True)]
    return weights, [names[0] for names in sets]
