"""Comparisons of two models over data sets, or of two data sets about the same rows over models, as a table."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from shardmark.errors import Problem, UserError
from shardmark.power import LEVEL
from shardmark.records.base import Record
from shardmark.scoring.comparisons import Comparison, holm

from .formats import plural
from .paired import Comparisons


class Line(Record, frozen=True, kw_only=True):
    """One comparison of a table; see `scoring.comparisons.Comparison` for the meaning of its numbers."""

    name: str
    "The data set or, if two data sets are compared, the model."
    metric: str
    percent: bool
    higher_is_better: bool
    difference: float
    ci95: tuple[float, float] | None
    p: float
    p_holm: float
    "The p-value corrected for all lines of the table."
    test: str
    n: int | None
    wins: int | None
    "Samples on which the first side is better: its score is higher or, where lower is better, lower."
    losses: int | None
    ties: int | None
    smallest: float | None

    @property
    def better(self) -> Literal["first", "second", ""]:
        """The side that is significantly better, after Holm's correction."""
        if self.p_holm >= LEVEL or not self.difference:
            return ""
        return "first" if (self.difference > 0) == self.higher_is_better else "second"


class Compared(Record, frozen=True, kw_only=True):
    """A table of comparisons of a first model or data set with a second."""

    kind: Literal["models", "datasets"]
    first: str
    second: str
    lines: list[Line]
    mean: Line | None = None
    "The mean over the lines that are fractions where higher is better; data sets about the same rows count as one."
    left_out: list[str] = msgspec.field(default_factory=list)
    "Names without results on both sides."


def compare_models(compared: Comparisons, first: str, second: str, datasets: Sequence[str] = ()) -> Compared:
    """Compare two models on data sets and groups, by default on all of a run. Raises UserError for unknown names.

    The mean is over those that are fractions where higher is better; by default, over those of the leaderboard's mean.
    """
    results = compared.results
    known = [info.name for info in results.columns]
    check_names("models", [first, second], compared.models)
    check_names("datasets", datasets, known)
    lines, left_out = [], []
    for dataset in datasets or known:
        one, other = results.get(first, dataset), results.get(second, dataset)
        if one is None or other is None or None in (one.scores.main.value, other.scores.main.value):
            left_out.append(dataset)
        else:
            main = one.scores.main
            facts = (one.scores.primary, main.percent, main.higher_is_better)
            lines.append(_line(dataset, facts, compared.between(first, second, dataset)))
    lines = _corrected(lines)
    shares = [line.name for line in lines if line.percent and line.higher_is_better]
    names = shares if datasets else results.in_mean
    counted, mean = len({results.same_rows.set_of(name) for name in names}), None
    if counted > 1 and {*names} <= {*shares}:
        found = compared.mean(names).comparison(*(compared.models.index(name) for name in (first, second)))
        title = f"{'weighted ' * bool(results.mean_weights)}mean of {plural(counted, 'data set')}"
        mean = _line(title, ("mean", True, True), found)
    return Compared(kind="models", first=first, second=second, lines=lines, mean=mean, left_out=left_out)


def compare_datasets(compared: Comparisons, first: str, second: str, models: Sequence[str] = ()) -> Compared:
    """Compare two data sets about the same rows, by default for all models.

    Raises UserError for unknown names, and for data sets that `SameRows` does not join.
    """
    results = compared.results
    check_names("datasets", [first, second], [info.name for info in results.datasets])
    check_names("models", models, compared.models)
    if second not in results.same_rows.set_of(first):
        what = f"{first} and {second} do not ask about the same rows with the same metric, according to their scores"
        raise UserError(Problem("--datasets", "", what, "compare two models on each of them instead"))
    lines, left_out = [], []
    for model in models or compared.models:
        found = compared.of_datasets(first, second, model)
        if found is None:
            left_out.append(model)
        else:
            scores = results.pairs[model, first].scores
            facts = (scores.primary, scores.main.percent, scores.main.higher_is_better)
            lines.append(_line(model, facts, found))
    return Compared(kind="datasets", first=first, second=second, lines=_corrected(lines), left_out=left_out)


def _line(name: str, facts: tuple[str, bool, bool], found: Comparison) -> Line:
    metric, percent, higher = facts
    numbers: dict[str, Any] = found._asdict() | {"ties": found.ties}
    kept = {key: numbers[key] for key in ("difference", "ci95", "p", "n", "wins", "losses", "ties", "smallest", "test")}
    if not higher:
        kept |= {"wins": found.losses, "losses": found.wins}
    return Line(name=name, metric=metric, percent=percent, higher_is_better=higher, p_holm=found.p, **kept)


def _corrected(lines: list[Line]) -> list[Line]:
    adjusted = holm([line.p for line in lines])
    return [msgspec.structs.replace(line, p_holm=float(p)) for line, p in zip(lines, adjusted, strict=True)]


def check_names(key: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Raise UserError for names that are not among the known ones."""
    problems = [
        Problem(f"--{key}", "", f"{name!r} is not in the report", f"choose from {', '.join(known)}")
        for name in names
        if name not in known
    ]
    if problems:
        raise UserError(problems)
