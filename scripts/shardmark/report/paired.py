"""The comparisons of a run's models on each data set and on average, and of data sets that ask about the same rows.

The statistics are those of `scoring.comparisons`. If samples are not given, or a metric is not their mean, the
estimates are assumed to be independent, which is conservative.
"""

from collections.abc import Sequence

import numpy as np

from shardmark.scoring.comparisons import Comparison, Table, compare, compare_all, independent, mean_table

from .groups import Group, weights_of
from .pair import Pair
from .parts import Parts, unpacked
from .results import Results
from .same_rows import weights_and_names
from .sample_scores import SampleScores, read_sample_scores, whole_scores


class Comparisons:
    """All comparisons of a run; reads each file of samples once, when its data set is asked for."""

    def __init__(self, results: Results, parts: Parts | None = None) -> None:
        self.results = results
        self._parts = parts
        self.models = [model.name for model in results.models]
        "The models of the tables' rows and columns."
        self._tables: dict[str, Table] = {}
        self._scores: dict[str, dict[str, SampleScores]] = {}

    def scores(self, dataset: str) -> dict[str, SampleScores]:
        """The scores of a data set's samples, by model; without those whose mean is not the metric."""
        if dataset not in self._scores:
            pairs = {model: self.results.pairs.get((model, dataset)) for model in self.models}
            read = {model: self._read(pair) for model, pair in pairs.items() if pair}
            names: dict[tuple[str, ...], tuple[str, ...]] = {}
            self._scores[dataset] = {
                model: found._replace(names=names.setdefault(found.names, found.names))  # kept once for all models
                for model, found in read.items()
                if found
            }
        return self._scores[dataset]

    def _read(self, pair: Pair) -> SampleScores | None:
        part = self._parts.of(pair) if self._parts else None
        if not part:
            return read_sample_scores(pair)
        return whole_scores(pair.scores, part.ids, unpacked("d", part.scores), part.clusters, part.groups)

    def table(self, dataset: str) -> Table:
        """The comparisons of all models on a data set or group; a model that lacks it differs from all others."""
        if dataset not in self._tables:
            group = next((group for group in self.results.groups if group.name == dataset), None)
            self._tables[dataset] = self._on_dataset(dataset) if group is None else self._on_group(group)
        return self._tables[dataset]

    def between(self, one: str, other: str, dataset: str) -> Comparison:
        """Compare one model with another on a data set or group."""
        return self.table(dataset).comparison(self.models.index(one), self.models.index(other))

    def mean(self, datasets: Sequence[str]) -> Table:
        """The comparisons of the models' means over data sets and groups, with the weights that rank models."""
        weighted = weights_and_names(datasets, self.results.same_rows, self.results.mean_weights)
        return mean_table([self.table(name) for name in datasets], *weighted)

    def of_datasets(self, one: str, other: str, model: str) -> Comparison | None:
        """Compare a model on one data set with itself on another; None unless scores of the same rows are known."""
        here, there = self.scores(one).get(model), self.scores(other).get(model)
        shared = self.results.same_rows.aligned(one, other)
        if here is None or there is None or shared is None:
            return None
        clusters = [here.clusters[place] for place in shared[0]] if here.clusters else None
        return compare(list(here.at(shared[0])), list(there.at(shared[1])), clusters)

    def _on_dataset(self, dataset: str) -> Table:
        mains = [pair.scores.main if (pair := self._pair(model, dataset)) else None for model in self.models]
        by_names: dict[tuple[str, ...], list[str]] = {}
        scores = self.scores(dataset)
        for model, found in scores.items():
            by_names.setdefault(found.names, []).append(model)
        all_paired = len(by_names) == 1 and len(scores) == len(list(filter(None, mains)))
        counts = None if all_paired else [(m.clusters or m.n) if m and m.percent else None for m in mains]
        whole = independent([m.value if m else None for m in mains], [m.stderr if m else None for m in mains], counts)
        for models in by_names.values():
            first = scores[models[0]]
            table = compare_all(np.stack([scores[model].at() for model in models]), first.clusters)
            whole.put([self.models.index(model) for model in models], table)
        return whole

    def _on_group(self, group: Group) -> Table:
        pairs = [[self._pair(model, member) for member in group.members] for model in self.models]
        first = next(([pair for pair in found if pair] for found in pairs if all(found)), None)
        if first is None:
            return independent([None] * len(self.models), [None] * len(self.models))
        weights = weights_of(group, [pair.scores for pair in first])
        same = weights_and_names(group.members, self.results.same_rows, {})[1]
        return mean_table([self.table(member) for member in group.members], weights, same)

    def _pair(self, model: str, dataset: str) -> Pair | None:
        return self.results.pairs.get((model, dataset))
