"""The leaderboard: a row for each model, best first, and a column for each data set."""

from collections.abc import Callable
from dataclasses import dataclass

from shardmark.records.gap import Gap
from shardmark.records.score import DatasetInfo, Metric, ModelInfo

from .estimates import Standing, mean_metric, standings
from .paired import Comparisons
from .results import Results


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
    "`in chats` if all models were asked so; where only some were, their cells say it."


@dataclass(frozen=True)
class Cell:
    """A model's primary metric on a data set; None where the model was not run on it, or has failed as `gap` says."""

    model: str
    column: Column
    metric: Metric | None
    standing: Standing
    link: str | None
    gap: Gap | None = None
    remarks: tuple[str, ...] = ()
    "What must be said of the score."

    @property
    def absence(self) -> str:
        """What to say in place of a metric that is not there."""
        return self.gap.status if self.gap else "not run"


@dataclass(frozen=True)
class Row:
    """A model's place, its mean over the data sets that all models have, and its cells.

    A model that lacks a result which the run was to have has no mean.
    """

    rank: int
    model: ModelInfo
    mean: Metric | None
    standing: Standing
    cells: list[Cell]


@dataclass(frozen=True)
class Leaderboard:
    """Rows, best mean first, and columns."""

    columns: list[Column]
    rows: list[Row]

    @property
    def in_mean(self) -> list[Column]:
        """The columns that the mean is taken over."""
        return [column for column in self.columns if column.in_mean]

    @property
    def left_out(self) -> list[Column]:
        """The columns that the mean leaves out."""
        return [column for column in self.columns if not column.in_mean]

    @property
    def gaps(self) -> list[Gap]:
        """What the run was to have and has not, by model; a group lacks what its members lack."""
        cells = [cell for row in self.rows for cell in row.cells if cell.column.dataset.kind != "group"]
        return [cell.gap for cell in cells if cell.gap]

    def cells(self, column: Column) -> list[Cell]:
        """A column's cells, from the first row to the last."""
        return [cell for row in self.rows for cell in row.cells if cell.column is column]


def rank_models(results: Results) -> Leaderboard:
    """Build the leaderboard: models by mean, best first; models without one last; equal ones by name.

    The mean is unweighted, over the data sets that every model has and whose primary metric is a fraction
    for which higher is better: other metrics have no common unit to average. A group counts once, in the place of
    its data sets. Models with gaps have no mean, and take no data set from the others' mean.
    """
    columns = [_column(results, dataset) for dataset in results.columns]
    in_mean = [column for column in columns if column.in_mean]
    means = {model.name: _mean(results, model, in_mean) for model in results.models}
    models = sorted(results.models, key=lambda model: (-_value(means[model.name]), model.name))
    compared = Comparisons()
    marks = {column.dataset.name: _marks(results, models, column, compared) for column in columns}
    mean_marks = standings(
        [means[model.name] for model in models], _alike_on_average(results, models, in_mean, compared)
    )
    rows = []
    for place, model in enumerate(models):
        cells = [_cell(results, model, column, marks[column.dataset.name][place]) for column in columns]
        rows.append(Row(place + 1, model, means[model.name], mean_marks[place], cells))
    return Leaderboard(columns, rows)


def _marks(results: Results, models: list[ModelInfo], column: Column, compared: Comparisons) -> list[Standing]:
    """The standing of each model in a column."""
    pairs = [results.get(model.name, column.dataset.name) for model in models]

    def alike(one: int, other: int) -> bool:
        first, second = pairs[one], pairs[other]
        return bool(first and second and compared.alike(first, second))

    return standings([pair.scores.main if pair else None for pair in pairs], alike)


def _alike_on_average(
    results: Results, models: list[ModelInfo], columns: list[Column], compared: Comparisons
) -> Callable[[int, int], bool]:
    """Whether the means of the models at two places cannot be told apart."""

    def alike(one: int, other: int) -> bool:
        names = [models[place].name for place in (one, other)]
        found = [[results.get(name, column.dataset.name) for name in names] for column in columns]
        return compared.alike_on_average((first, second) for first, second in found if first and second)

    return alike


def _value(metric: Metric | None) -> float:
    return metric.value if metric is not None and metric.value is not None else float("-inf")


def _column(results: Results, dataset: DatasetInfo) -> Column:
    pairs = [results.get(model.name, dataset.name) for model in results.models]
    known = [pair.scores for pair in pairs if pair]
    groups = tuple(results.groups_of(dataset.name))
    if not known:
        return Column(dataset, "", percent=False, higher_is_better=True, in_mean=False, groups=groups)
    main = known[0].main
    whole = [results.get(model.name, dataset.name) for model in results.models if not results.has_gaps(model.name)]
    complete = bool(whole) and all(pair and pair.scores.main.value is not None for pair in whole)
    in_mean = complete and main.percent and main.higher_is_better and not groups
    asked = "in chats" if results.ways(dataset.name) == {True} else ""
    return Column(dataset, known[0].primary, main.percent, main.higher_is_better, in_mean, groups, asked)


def _metric(results: Results, model: ModelInfo, column: Column) -> Metric | None:
    pair = results.get(model.name, column.dataset.name)
    return pair.scores.main if pair else None


def _mean(results: Results, model: ModelInfo, columns: list[Column]) -> Metric | None:
    if results.has_gaps(model.name):
        return None
    metrics = [_metric(results, model, column) for column in columns]
    return mean_metric([metric for metric in metrics if metric is not None])


def _cell(results: Results, model: ModelInfo, column: Column, standing: Standing) -> Cell:
    pair = results.get(model.name, column.dataset.name)
    gap = results.gap(model.name, column.dataset.name)
    remarks = tuple(pair.scores.counts.remarks()) if pair else ()
    if pair and len(results.ways(column.dataset.name)) > 1:
        remarks = ("in a chat" if pair.scores.dataset.is_chat else "as text", *remarks)
    metric = _metric(results, model, column)
    return Cell(model.name, column, metric, standing, pair.link if pair else None, gap, remarks)
