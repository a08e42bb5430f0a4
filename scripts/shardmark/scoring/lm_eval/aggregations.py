"""lm-eval's aggregations: one number from a metric's values of all samples, with its standard error.

The rules are those of lm_eval/api/metrics.py. Where lm-eval resamples for the error, we do the same with its seeds: the
error is the same number. Most values depend only on sums over samples, so a draw is a sum. Some have no error in
lm-eval, and none here.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shardmark.scoring.statistics import Estimate, estimate_by_draws, estimate_mean, estimate_of_order

Values = Sequence[Any]
"A metric's values, one for each sample."

Parts = tuple[Sequence[Sequence[float]], Callable[[Any], float]]
"A row of numbers for each sample, and a function from the sum of rows to the value."

DRAWS = 100_000
FEW_DRAWS = 100
SLOW = {"bleu", "chrf", "chrf++", "ter"}
"Metrics (by name, whatever their aggregation) for which lm-eval draws only a few times."


def aggregate(aggregation: str, metric: str, values: Values) -> Estimate:
    """The value over all samples. Raises lm-eval's errors for values that the aggregation cannot read."""
    return AGGREGATIONS[aggregation](values, FEW_DRAWS if metric in SLOW else DRAWS)


def _drawn(parts: Callable[[Values], Parts]) -> Callable[[Values, int], Estimate]:
    def estimate(values: Values, draws: int) -> Estimate:
        rows, value = parts(values)
        return estimate_by_draws(rows, value, draws)

    return estimate


def _plain(parts: Callable[[Values], Parts]) -> Callable[[Values, int], Estimate]:
    def estimate(values: Values, draws: int) -> Estimate:
        rows, value = parts(values)
        return Estimate(value(np.sum(np.asarray(rows, float), axis=0)), None, None, len(rows))

    return estimate


def _perplexity(values: Values) -> Parts:
    return [[float(value), 1.0] for value in values], lambda sums: math.exp(-sums[0] / sums[1])


def _weighted_perplexity(values: Values) -> Parts:
    return [[float(a), float(b)] for a, b in values], lambda sums: math.exp(-sums[0] / sums[1])


def _bits_per_byte(values: Values) -> Parts:
    return [[float(a), float(b)] for a, b in values], lambda sums: float(-sums[0] / sums[1] / math.log(2))


def _nanmean(values: Values) -> Parts:
    known = [not math.isnan(value) for value in values]
    rows = [[float(value), 1.0] if there else [0.0, 0.0] for value, there in zip(values, known, strict=True)]
    return rows, lambda sums: float(sums[0] / sums[1]) if sums[1] else math.nan


def _f1(values: Values) -> Parts:
    """F1 of label 1 among 0 and 1, as scikit-learn's f1_score, which refuses other labels."""
    if strange := {label for pair in values for label in pair} - {0, 1}:
        raise ValueError(f"f1 needs labels 0 and 1, but found {sorted(map(str, strange))[:5]}")
    rows = [[float(gold == 1), float(guess == 1), float(gold == guess == 1)] for gold, guess in values]
    return rows, lambda sums: float(2 * sums[2] / (sums[0] + sums[1])) if sums[0] + sums[1] else 0.0


def _mcc(values: Values) -> Parts:
    """Matthews' correlation from counts of right and predicted labels, as scikit-learn's matthews_corrcoef."""
    labels = sorted({label for pair in values for label in pair})
    place = {label: n for n, label in enumerate(labels)}
    rows = np.zeros((len(values), len(labels) ** 2))
    for row, (gold, guess) in zip(rows, values, strict=True):
        row[place[gold] * len(labels) + place[guess]] = 1

    def value(sums: Any) -> float:
        table = np.asarray(sums).reshape(len(labels), -1)
        n, right, guessed = table.sum(), table.sum(axis=1), table.sum(axis=0)
        spread = (n**2 - guessed @ guessed) * (n**2 - right @ right)
        return float((np.trace(table) * n - right @ guessed) / math.sqrt(spread)) if spread else 0.0

    return rows.tolist(), value


def _sacrebleu(name: str, whole: bool = True, **options: Any) -> Callable[[Values], Parts]:
    """A metric of sacrebleu, in its own unit (0 to 100, TER may exceed it); `whole`: its counts are whole numbers."""

    def parts(values: Values) -> Parts:
        import sacrebleu.metrics

        metric = getattr(sacrebleu.metrics, name)(**options)
        golds, answers = zip(*values, strict=True)
        references = [[gold] if isinstance(gold, str) else list(gold) for gold in golds]
        streams = list(zip(*references, strict=False))  # as many as the sample with the fewest has
        found = [answer if isinstance(answer, str) else _only(answer) for answer in answers]
        kind = int if whole else float
        rows = metric._extract_corpus_statistics(found, streams)
        return rows, lambda sums: float(metric._compute_score_from_stats([kind(x) for x in sums]).score)

    return parts


def _only(answers: Sequence[str]) -> str:
    (answer,) = answers
    return answer


def _mean(values: Values, draws: int) -> Estimate:
    return estimate_mean([float(value) for value in values])


def _median(values: Values, draws: int) -> Estimate:
    return estimate_of_order([float(value) for value in values], len(values) // 2, draws)


def _brier(values: Values, draws: int) -> Estimate:
    """Mean over samples of the sum over choices of (probability - 1 if right else 0) squared."""
    golds, probabilities = zip(*values, strict=True)
    table = np.array(probabilities)
    right = np.eye(table.shape[1])[list(golds)]
    return Estimate(float(np.mean(np.sum((table - right) ** 2, axis=1))), None, None, len(values))


def _bypass(values: Values, draws: int) -> Estimate:
    """lm-eval's mark of tasks that are not to be scored."""
    return Estimate(999.0, None, None, len(values))


AGGREGATIONS: dict[str, Callable[[Values, int], Estimate]] = {
    "mean": _mean,
    "median": _median,
    "nanmean": _drawn(_nanmean),
    "perplexity": _drawn(_perplexity),
    "weighted_perplexity": _plain(_weighted_perplexity),
    "bits_per_byte": _plain(_bits_per_byte),
    "f1": _drawn(_f1),
    "matthews_corrcoef": _drawn(_mcc),
    "bleu": _drawn(_sacrebleu("BLEU")),
    "chrf": _drawn(_sacrebleu("CHRF")),
    "chrf++": _drawn(_sacrebleu("CHRF", word_order=2)),
    "ter": _drawn(_sacrebleu("TER", whole=False)),
    "brier_score": _brier,
    "bypass": _bypass,
}
