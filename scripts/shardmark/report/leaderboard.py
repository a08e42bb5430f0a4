"""The leaderboard: a row for each model, best first, and a column for each data set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from shardmark.power import LEVEL
from shardmark.records.gap import Gap
from shardmark.records.score import DatasetInfo, Metric, ModelInfo
from shardmark.scoring.comparisons import Numbers, Table, holm_of_pairs

from .estimates import Standing, mean_metric, standings
from .formats import described
from .paired import Comparisons
from .ranks import RankRange, rank_ranges
from .results import Results
from .same_rows import weights_and_names


@dataclass(frozen=True)
class Column:
    """A data set or group and its primary metric, "" if no model has one; in_mean: whether it is part of the mean."""

    dataset: DatasetInfo
    metric: str
    percent: bool
    higher_is_better: bool
    in_mean: bool
    groups: tuple[str, ...] = ()
    "The groups that count in its place."
    asked: str = ""
    "`in chats` if all models were asked so; if only some were, their cells say so."
    counted_with: tuple[str, ...] = ()
    "The other data sets about the same rows, which count as one with it in the mean."


@dataclass(frozen=True)
class Cell:
    """A model's primary metric on a data set; None if the model was not run on it, or failed as `gap` says."""

    model: str
    column: Column
    metric: Metric | None
    standing: Standing
    link: str | None
    gap: Gap | None = None
    remarks: tuple[str, ...] = ()
    "Remarks that must accompany the score."

    @property
    def absence(self) -> str:
        """The text in place of a missing metric."""
        return self.gap.status if self.gap else "not run"

    @property
    def about(self) -> str:
        """The content of the cell in words."""
        said = f"{self.column.metric} {described(self.metric)}" if self.metric else ""
        return f"{self.model} on {self.column.dataset.name}: {said or (self.gap.text if self.gap else 'not run')}"


@dataclass(frozen=True)
class Row:
    """A model's rank, its mean over the data sets that all models have, and its cells.

    A model that lacks a planned result has no mean.
    """

    rank: int
    "Its place in the table; models without a mean come last, by name."
    model: ModelInfo
    mean: Metric | None
    standing: Standing
    cells: list[Cell]
    ranks: RankRange | None = None
    "The ranks that it may have; None without a mean."
    by_samples: Metric | None = None
    "The mean over the same data sets, weighted by their numbers of samples."
    unweighted: Metric | None = None
    "The mean in which each of these data sets counts the same, if `mean` has other weights."


@dataclass(frozen=True)
class Leaderboard:
    """Rows, best mean first, and columns."""

    columns: list[Column]
    rows: list[Row]
    weights: Mapping[str, float] = field(default_factory=dict)
    "The weights of the data sets and groups of the mean, if they are given; else all count the same."

    @property
    def in_mean(self) -> list[Column]:
        """The columns that the mean is taken over."""
        return [column for column in self.columns if column.in_mean]

    @property
    def counted(self) -> int:
        """How many data sets the mean is taken over; those about the same rows count as one."""
        return len({frozenset((column.dataset.name, *column.counted_with)) for column in self.in_mean})

    @property
    def left_out(self) -> list[Column]:
        """The columns that the mean leaves out."""
        return [column for column in self.columns if not column.in_mean]

    @property
    def gaps(self) -> list[Gap]:
        """The missing results, by model; a group lacks what its members lack."""
        cells = [cell for row in self.rows for cell in row.cells if cell.column.dataset.kind != "group"]
        return [cell.gap for cell in cells if cell.gap]

    def cells(self, column: Column) -> list[Cell]:
        """A column's cells, from the first row to the last."""
        place = self.columns.index(column)
        return [row.cells[place] for row in self.rows]


def rank_models(results: Results, compared: Comparisons | None = None) -> Leaderboard:
    """Build the leaderboard: models by mean, best first; models without one last; equal ones by name.

    The mean is over the data sets that every model has and whose primary metric is a fraction where higher is better:
    other metrics have no common unit to average. It is unweighted unless the results have weights for it. A group
    counts once, in place of its data sets, and so do data sets that ask about the same rows. Models with gaps have no
    mean, and remove no data set from the others' mean. `compared` are the comparisons of these results, if they exist
    already.
    """
    compared = compared or Comparisons(results)
    columns = [_column(results, dataset) for dataset in results.columns]
    in_mean = results.in_mean
    columns = [replace(column, counted_with=_counted_with(results, column, in_mean)) for column in columns]
    weights = {name: results.mean_weights.get(name, 1.0) for name in in_mean if results.mean_weights}
    means = {model.name: _mean(results, model, in_mean, weights) for model in results.models}
    models = sorted(results.models, key=lambda model: (-_value(means[model.name]), model.name))
    marks = {column.dataset.name: _marks(results, models, column, compared) for column in columns}
    found = [means[model.name] for model in models]
    together = _together(compared.mean(in_mean), models, found, compared) if in_mean else np.ones((len(models),) * 2)
    mean_marks = standings(found, _alike(together))
    ranks = _ranks(found, together)
    rows = []
    for place, model in enumerate(models):
        cells = [_cell(results, model, column, marks[column.dataset.name][place]) for column in columns]
        by_samples = _mean(results, model, in_mean, by_samples=True)
        unweighted = _mean(results, model, in_mean) if weights else None
        mean = means[model.name]
        rows.append(Row(place + 1, model, mean, mean_marks[place], cells, ranks[place], by_samples, unweighted))
    return Leaderboard(columns, rows, weights)


def _counted_with(results: Results, column: Column, in_mean: Sequence[str]) -> tuple[str, ...]:
    name = column.dataset.name
    return tuple(n for n in results.same_rows.set_of(name) if n in in_mean and n != name) if column.in_mean else ()


def _together(
    table: Table, models: Sequence[ModelInfo], found: Sequence[Metric | None], compared: Comparisons
) -> Numbers:
    """The p-values of all pairs of models with an estimate, corrected for their number; 1 for the others."""
    known = [place for place, metric in enumerate(found) if metric is not None and metric.value is not None]
    places = [compared.models.index(models[place].name) for place in known]
    p = np.ones((len(models), len(models)))
    p[np.ix_(known, known)] = holm_of_pairs(table.p[np.ix_(places, places)])
    return p


def _alike(p: Numbers) -> Callable[[int, int], bool]:
    return lambda one, other: bool(p[one, other] >= LEVEL)


def _ranks(found: Sequence[Metric | None], p: Numbers) -> list[RankRange | None]:
    known = [(place, m.value) for place, m in enumerate(found) if m is not None and m.value is not None]
    places = [place for place, _ in known]
    ranges = dict(zip(places, rank_ranges([v for _, v in known], p[np.ix_(places, places)]), strict=True))
    return [ranges.get(place) for place in range(len(found))]


def _marks(results: Results, models: list[ModelInfo], column: Column, compared: Comparisons) -> list[Standing]:
    """The standing of each model in a column."""
    pairs = [results.get(model.name, column.dataset.name) for model in models]
    found = [pair.scores.main if pair else None for pair in pairs]
    return standings(found, _alike(_together(compared.table(column.dataset.name), models, found, compared)))


def _value(metric: Metric | None) -> float:
    return metric.value if metric is not None and metric.value is not None else float("-inf")


def _column(results: Results, dataset: DatasetInfo) -> Column:
    pairs = [results.get(model.name, dataset.name) for model in results.models]
    known = [pair.scores for pair in pairs if pair]
    groups = tuple(results.groups_of(dataset.name))
    if not known:
        return Column(dataset, "", percent=False, higher_is_better=True, in_mean=False, groups=groups)
    main = known[0].main
    in_mean = dataset.name in results.in_mean
    asked = "in chats" if results.ways(dataset.name) == {True} else ""
    return Column(dataset, known[0].primary, main.percent, main.higher_is_better, in_mean, groups, asked)


def _mean(
    results: Results,
    model: ModelInfo,
    datasets: Sequence[str],
    given: Mapping[str, float] | None = None,
    by_samples: bool = False,
) -> Metric | None:
    if results.has_gaps(model.name):
        return None
    pairs = [results.get(model.name, dataset) for dataset in datasets]
    metrics = [pair.scores.main for pair in pairs if pair]
    weights, names = weights_and_names(datasets, results.same_rows, given or {})
    if by_samples:
        weights = [weight * metric.n for weight, metric in zip(weights, metrics, strict=False)]
    return mean_metric(metrics, weights, names)


def _cell(results: Results, model: ModelInfo, column: Column, standing: Standing) -> Cell:
    pair = results.get(model.name, column.dataset.name)
    gap = results.gap(model.name, column.dataset.name)
    remarks = tuple(pair.scores.counts.remarks()) if pair else ()
    if pair and len(results.ways(column.dataset.name)) > 1:
        remarks = ("in a chat" if pair.scores.dataset.is_chat else "as text", *remarks)
    metric = pair.scores.main if pair else None
    return Cell(model.name, column, metric, standing, pair.link if pair else None, gap, remarks)
