"""Whether models differ, from their scores of the same samples: all pairs of models on a data set at once.

Samples that one model finds hard are often hard for another, too, so the difference of two models on the same samples
is known better than that of two independent estimates (E. Miller, "Adding error bars to evals", 2024). The tests ask
how often chance would make a difference as large if a coin toss decided, for each sample, which model has which score
(R. A. Fisher, "The design of experiments", 1935, section 21): for scores that are right or wrong, that is McNemar's
exact test (Psychometrika 12, 1947). For other scores, all tosses are counted if few samples differ; if many do,
Student's paired test gives nearly the same. Samples of one cluster are tossed together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from shardmark.power import LEVEL, POWER, STEPS
from shardmark.scoring.statistics import CONFIDENCE, combined_error

Numbers = npt.NDArray[np.float64]
Test = Literal["mcnemar", "permutation", "t", "wald", "fisher", "combined", ""]
"The test of a p-value; permutation or t depends on how many samples differ."

TESTS: tuple[Test, ...] = get_args(Test)
MOST_TOSSED = 12
"Up to this many differing samples are tossed in all (4,096) ways; for more, Student's test is used."
EXACTLY_ALIKE = 1e-12
"Scores that differ by less count as equal: sums of the same numbers in another order differ by rounding."


class Comparison(NamedTuple):
    """One model's scores against another's; a positive difference means that the first is higher."""

    difference: float
    "Difference of the means: fractions, not percent."
    stderr: float | None
    "None if unknown."
    ci95: tuple[float, float] | None
    "The 95% interval of the difference; None if unknown."
    p: float
    "The two-sided p-value of this comparison alone (see `holm`)."
    test: Test
    null_stderr: float | None = None
    "The standard error under the hypothesis of no difference, which tests of means over data sets use."
    n: int | None = None
    "Samples that both have; None if each estimate has its own samples."
    wins: int | None = None
    losses: int | None = None
    smallest: float | None = None
    "The smallest difference that a test on these samples detects in 80 of 100 cases; None if unknown."

    @property
    def ties(self) -> int | None:
        """How many samples have the same score in both."""
        return None if self.n is None else self.n - (self.wins or 0) - (self.losses or 0)


@dataclass(frozen=True)
class Table:
    """Comparisons of each model with each other, as arrays [model, other model]; see `Comparison`."""

    difference: Numbers
    p: Numbers
    test: npt.NDArray[np.uint8]
    "Places in TESTS."
    stderr: Numbers
    "NaN if unknown, as in all arrays below."
    null_stderr: Numbers
    low: Numbers
    high: Numbers
    n: Numbers
    wins: Numbers
    smallest: Numbers

    def comparison(self, one: int, other: int) -> Comparison:
        """The comparison of two of the models."""
        place = (one, other)
        low, high = _known(self.low[place]), _known(self.high[place])
        n, wins, losses = (_known(value) for value in (self.n[place], self.wins[place], self.wins[other, one]))
        return Comparison(
            difference=float(self.difference[place]),
            stderr=_known(self.stderr[place]),
            ci95=None if low is None or high is None else (low, high),
            p=float(self.p[place]),
            test=TESTS[self.test[place]],
            null_stderr=_known(self.null_stderr[place]),
            n=None if n is None else round(n),
            wins=None if wins is None else round(wins),
            losses=None if losses is None else round(losses),
            smallest=_known(self.smallest[place]),
        )

    def put(self, models: Sequence[int], table: "Table") -> None:
        """Copy the comparisons of some models from another table, which has just these."""
        place = np.ix_(models, models)
        for name, array in vars(table).items():
            getattr(self, name)[place] = array


def compare_all(scores: npt.ArrayLike, clusters: Sequence[Any] | npt.NDArray[Any] | None = None) -> Table:
    """Compare all rows of `scores` with each other: a row for each model, a column for each sample.

    `clusters` names each sample's cluster, within which samples may depend on each other. Raises ValueError without
    samples.
    """
    table = np.asarray(scores, dtype=float)
    if table.ndim != 2 or not table.size:
        raise ValueError("no samples to compare")
    binary = bool(((table == 0) | (table == 1)).all())
    if binary and clusters is None:
        return _right_or_wrong(table)
    codes = np.arange(table.shape[1]) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    return _by_units(table, codes.ravel(), binary)


def compare(one: Sequence[float], other: Sequence[float], clusters: Sequence[Any] | None = None) -> Comparison:
    """Compare two models' scores of the same samples, in the same order."""
    return compare_all([one, other], clusters).comparison(0, 1)


def _right_or_wrong(table: Numbers) -> Table:
    """McNemar's exact test, and the adjusted interval of D. Bonett and R. Price (J. Educ. Behav. Stat. 37, 2012).

    The interval does not vanish if no sample differs, or all do.
    """
    n = table.shape[1]
    wins = np.rint(table @ (1 - table).T)
    losses, unlike = wins.T, wins + wins.T
    difference = (wins - losses) / n
    spread = np.sqrt(np.maximum(0, unlike / n - difference**2) / (n - 1)) if n > 1 else np.full_like(wins, np.nan)
    low, high = _adjusted_interval(wins, losses, n)
    null = np.sqrt(unlike) / n
    return Table(
        difference=difference,
        p=mcnemar(wins, losses),
        test=_code("mcnemar", wins.shape),
        stderr=spread,
        null_stderr=null,
        low=low,
        high=high,
        n=np.full(wins.shape, float(n)),
        wins=wins,
        smallest=np.minimum(1, STEPS * np.maximum(null, STEPS / n)),
    )


def mcnemar(wins: npt.ArrayLike, losses: npt.ArrayLike) -> Numbers:
    """The two-sided p-values of McNemar's exact test for numbers of wins and of losses."""
    from scipy import special  # scipy.stats has the same under better names, but takes a second to import

    won, lost = np.asarray(wins).astype(np.int64), np.asarray(losses).astype(np.int64)
    return np.asarray(np.minimum(1.0, 2 * special.bdtr(np.minimum(won, lost).astype(float), won + lost, 0.5)))


def _adjusted_interval(wins: Numbers, losses: Numbers, n: float) -> tuple[Numbers, Numbers]:
    from scipy import special

    more, less = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    middle = more - less
    half = float(special.ndtri((1 + CONFIDENCE) / 2)) * np.sqrt((more + less - middle**2) / (n + 2))
    return np.maximum(-1, middle - half), np.minimum(1, middle + half)


def _by_units(table: Numbers, codes: npt.NDArray[Any], binary: bool) -> Table:
    """Compare sums over clusters (or single samples): all tosses if few differ, Student's test if many do."""
    from scipy import special

    models, n = table.shape
    units = int(codes.max()) + 1
    sizes = np.bincount(codes, minlength=units).astype(float)
    alone = units == n
    totals = table[:, np.argsort(codes)] if alone else np.stack([np.bincount(codes, row, units) for row in table])
    scale = max(1.0, float(np.abs(table).max())) * EXACTLY_ALIKE
    shape = (models, models)
    difference, null, wins = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    stderr, p = np.full(shape, 0.0 if units > 1 else np.nan), np.ones(shape)
    tossed = np.ones(shape, dtype=bool)
    quantiles = [float(special.stdtrit(units - 1, 1 - LEVEL / 2)), float(special.stdtrit(units - 1, POWER))]
    for one in range(models - 1):  # each with all that follow; the other half is the same with the opposite sign
        rest = slice(one + 1, models)
        each = table[one] - table[rest]
        sums = totals[one] - totals[rest]
        sums[np.abs(sums) <= scale] = 0.0
        mean = each.mean(axis=1)
        wins[one, rest], wins[rest, one] = (each > scale).sum(axis=1), (each < -scale).sum(axis=1)
        squares = np.square(sums - mean[:, None] * sizes).sum(axis=1)
        if units > 1:
            stderr[one, rest] = np.sqrt(squares * units / (units - 1)) / n
        null[one, rest] = np.sqrt(np.square(sums).sum(axis=1)) / n
        difference[one, rest] = np.where((sums == 0).all(axis=1), 0.0, mean)
        unlike = (sums != 0).sum(axis=1)
        all_alike = 0.5 ** np.maximum(unlike - 1.0, 0)  # no toss is more extreme than one in which all have one sign
        p[one, rest] = np.maximum(_student(difference[one, rest], stderr[one, rest], units), all_alike)
        few = unlike <= MOST_TOSSED
        tossed[one, rest] = tossed[rest, one] = few
        for place in np.flatnonzero(few):
            p[one, one + 1 + place] = sign_flips(sums[place][sums[place] != 0])
    upper = np.triu_indices(models, 1)
    for array, sign in ((difference, -1), (null, 1), (stderr, 1), (p, 1)):
        array.T[upper] = sign * array[upper]
    flat = (stderr <= scale) & (difference != 0)
    if not binary and flat.any():  # equal differences have no spread, but are not certain: as uncertain as their test
        stderr[flat] = np.abs(difference[flat]) / -special.stdtrit(units - 1, p[flat] / 2)
    low, high = difference - quantiles[0] * stderr, difference + quantiles[0] * stderr
    smallest = np.where(stderr > 0, sum(quantiles) * stderr, np.nan)
    if binary:
        sure = ~(stderr > 0)  # where all clusters agree, their number tells how sure that is, not their spread
        bounds = _adjusted_interval(wins * units / n, wins.T * units / n, units)
        low, high = np.where(sure, bounds[0], low), np.where(sure, bounds[1], high)
        low, high = np.maximum(-1, low), np.minimum(1, high)
        smallest = np.minimum(1, np.where(sure, STEPS**2 / units, smallest))
    test = np.where(tossed, _code("permutation", shape), _code("t", shape))
    return Table(difference, p, test, stderr, null, low, high, np.full(shape, float(n)), wins, smallest)


def _student(difference: Numbers, stderr: Numbers, units: int) -> Numbers:
    from scipy import special

    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(stderr > 0, np.abs(difference) / stderr, np.inf)
    found = 2 * special.stdtr(units - 1, -steps) if units > 1 else np.ones_like(difference)
    return np.asarray(np.where(difference == 0, 1.0, found))


def sign_flips(differences: Sequence[float] | Numbers) -> float:
    """The exact two-sided p-value of a sum of differences, each of which might equally well have the opposite sign."""
    values = np.asarray(differences, dtype=float)
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    observed = abs(float(values.sum()))
    return float(np.mean(np.abs(sums) >= observed * (1 - 1e-9)))


def independent(
    values: Sequence[float | None], errors: Sequence[float | None], counts: Sequence[int | None] | None = None
) -> Table:
    """Compare estimates (None: unknown) with their standard errors, each of its own samples, by Wald's test.

    Where an error is unknown, nothing is significant (p is 1); an unknown value differs from every other. An error of 0
    means that all samples agree, not that the value is certain: a fraction of so many samples (`counts`) is then
    compared by Fisher's exact test, and the error of the difference is the one that gives its p-value. Of other values
    that both have no spread, no difference is significant.
    """
    value = np.array([np.nan if each is None else each for each in values])
    error = np.array([np.nan if each is None else each for each in errors])
    difference = value[:, None] - value[None, :]
    difference[np.isclose(value[:, None], value[None, :], rtol=EXACTLY_ALIKE, atol=1e-15)] = 0.0
    difference[np.isnan(difference)] = np.inf
    spread = np.hypot(error[:, None], error[None, :])
    spread[(spread == 0) & (difference != 0)] = np.nan
    exact: dict[tuple[int, int], float] = {}
    agree = (error == 0)[:, None] | (error == 0)[None, :]
    for one, other in np.argwhere(np.triu(agree & (difference != 0) & (np.abs(difference) <= 1))).tolist():
        n, of = (counts[one], counts[other]) if counts else (None, None)
        if n and of:
            exact[one, other] = p = fisher(round(value[one] * n), n, round(value[other] * of), of)
            steps = _normal_steps(p)
            spread[one, other] = spread[other, one] = abs(difference[one, other]) / steps if steps else np.nan
    table = _wald(difference, spread, "wald")
    for (one, other), p in exact.items():
        table.p[[one, other], [other, one]] = p
        table.test[[one, other], [other, one]] = TESTS.index("fisher")
    return table


def _normal_steps(p: float) -> float:
    """The number of standard errors beyond which, on either side, a normal distribution has this share."""
    from scipy import special

    return float(-special.ndtri(p / 2)) if p < 1 else 0.0


def fisher(successes: int, n: int, other: int, of: int) -> float:
    """The two-sided p-value of Fisher's exact test of two shares (J. R. Stat. Soc. 98, 1935), as in scipy.stats."""
    from scipy import special

    def ways(total: int, chosen: npt.ArrayLike) -> Numbers:
        rest = total - np.asarray(chosen)
        return np.asarray(special.gammaln(total + 1) - special.gammaln(np.add(chosen, 1)) - special.gammaln(rest + 1))

    total = successes + other
    first = np.arange(max(0, total - of), min(n, total) + 1)
    chances = np.exp(ways(n, first) + ways(of, total - first) - ways(n + of, total))
    extreme = chances <= chances[successes - first[0]] * (1 + 1e-7)
    return float(np.clip(chances[extreme].sum(), np.finfo(float).tiny, 1.0))


def mean_table(tables: Sequence[Table], weights: Sequence[float], same: Sequence[Any]) -> Table:
    """The weighted means of the differences on data sets.

    Data sets with equal names in `same` ask about the same rows: as their differences may depend on each other, their
    errors are added, while the squares of independent errors are. Intervals are made from those of the data sets
    (`scoring.statistics.interval_of_mean`). The test asks how often coin tosses would make a mean as large.
    """
    if len(tables) == 1:
        return tables[0]
    total = float(np.sum(weights))
    share = [weight / total for weight in weights]
    value = np.sum([w * t.difference for w, t in zip(share, tables, strict=True)], axis=0)

    def combined(errors: Sequence[Numbers]) -> Numbers:
        return combined_error(errors, share, same)

    null = combined([t.null_stderr for t in tables])
    found = _wald(value, null, "combined")
    counted = [np.sum(arrays, axis=0) for arrays in ([t.n for t in tables], [t.wins for t in tables])]
    return Table(
        difference=value,
        p=found.p,
        test=found.test,
        stderr=combined([t.stderr for t in tables]),
        null_stderr=null,
        low=value - combined([t.difference - t.low for t in tables]),
        high=value + combined([t.high - t.difference for t in tables]),
        n=counted[0],
        wins=counted[1],
        smallest=combined([t.smallest for t in tables]),
    )


def _wald(difference: Numbers, stderr: Numbers, test: Test) -> Table:
    from scipy import special

    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.maximum(2 * special.ndtr(-np.abs(difference) / stderr), np.finfo(float).tiny)
        p[~np.isfinite(difference)] = 0.0
        half = float(special.ndtri((1 + CONFIDENCE) / 2)) * np.where(np.isfinite(difference), stderr, np.nan)
        p[(np.abs(difference) <= 1e-15) | (~(stderr > 0) & np.isfinite(difference))] = 1.0
        low, high, smallest = difference - half, difference + half, np.where(stderr > 0, STEPS * stderr, np.nan)
    nothing = np.full(difference.shape, np.nan)
    return Table(
        difference, p, _code(test, difference.shape), stderr, stderr, low, high, nothing, nothing.copy(), smallest
    )


def holm(ps: npt.ArrayLike) -> Numbers:
    """The adjusted p-values of several tests together (S. Holm, Scand. J. Statist. 6, 1979).

    A value of at most 0.05 is significant, and the chance that any of those is so by chance alone is at most 1 in 20,
    whatever the dependence between the tests. In an array of several dimensions, the tests along the first belong
    together; NaN stands for a missing test.
    """
    found = np.asarray(ps, dtype=float)
    order = np.argsort(found, axis=0, kind="stable")  # NaN last
    tests = (~np.isnan(found)).sum(axis=0)
    places = np.arange(len(found)).reshape(-1, *(1,) * (found.ndim - 1))
    steps = np.take_along_axis(found, order, axis=0) * np.maximum(1, tests - places)
    adjusted = np.full_like(found, np.nan)
    np.put_along_axis(adjusted, order, np.minimum(1.0, np.maximum.accumulate(steps, axis=0)), axis=0)
    return adjusted


def holm_of_pairs(p: Numbers) -> Numbers:
    """Holm's p-values of a table [model, other model], over all pairs of models."""
    upper = np.triu_indices(len(p), 1)
    adjusted = np.ones_like(p)
    adjusted[upper] = holm(p[upper])
    adjusted.T[upper] = adjusted[upper]
    return adjusted


def _code(test: Test, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return np.full(shape, TESTS.index(test), np.uint8)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
