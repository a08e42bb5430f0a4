"""What readers must know before trusting the numbers: the headline, gaps and warnings."""

from typing import NamedTuple

from shardmark.records.score import Reasoning
from shardmark.records.timings import Timings

from .formats import DASH, figure, margin, plural
from .leaderboard import Leaderboard
from .results import Results

NAMED = 3
"The most data sets that the headline names together with the part of them that was asked."


class Warned(NamedTuple):
    """A pair whose scores need care: counts of samples by problem, their shares (0 to 1), and other remarks."""

    model: str
    dataset: str
    samples: int
    truncated: int
    unanswered: int
    near_misses: int
    link: str | None
    remarks: str

    def share(self, amount: int) -> float | None:
        """`amount` as a fraction of the samples."""
        return amount / self.samples if self.samples else None


def warnings(results: Results) -> list[Warned]:
    """The pairs whose scores need care."""
    found = []
    for pair in results:
        scores, counts = pair.scores, pair.scores.counts
        amounts = (counts.truncated, counts.unanswered, counts.near_misses)
        if any(amounts) or counts.remarks():
            head = (scores.model.name, scores.dataset.name, counts.samples)
            found.append(Warned(*head, *amounts, pair.link, "; ".join(counts.remarks())))
    return found


def reasoning(results: Results) -> list[tuple[str, str, Reasoning]]:
    """(model, data set, amount of thinking) of the pairs that reason."""
    known = [(pair.scores.model.name, pair.scores.dataset.name, pair.scores.counts.reasoning) for pair in results]
    return [(model, dataset, found) for model, dataset, found in known if found]


def endpoints(results: Results) -> list[tuple[str, str, Timings]]:
    """(model, data set, timings) of the pairs that an endpoint has answered."""
    known = [(pair.scores.model.name, pair.scores.dataset.name, pair.timings) for pair in results]
    return [(model, dataset, found) for model, dataset, found in known if found and found.usage]


def of_datasets(results: Results) -> list[tuple[str, str]]:
    """(data set, remark) for what readers should know of data sets' samples, whatever the model."""
    return [(dataset.name, remark) for dataset in results.datasets for remark in dataset.remarks]


def incomplete(board: Leaderboard) -> str:
    """A sentence if planned results are missing; "" if the run has them all."""
    gaps = board.gaps
    if not gaps:
        return ""
    cells = [cell for row in board.rows for cell in row.cells if cell.column.dataset.kind != "group"]
    total = len(gaps) + sum(cell.metric is not None for cell in cells)
    models = list(dict.fromkeys(gap.model.name for gap in gaps))
    named = ", ".join(models[:3]) + (f" and {len(models) - 3} more" if len(models) > 3 else "")
    missing = f"{len(gaps)} of {plural(total, 'result')} {'is' if len(gaps) == 1 else 'are'} missing"
    return f"Incomplete: {missing} ({named}), and models that lack any have no mean."


def near_misses(results: Results) -> list[str]:
    """For each pair, how many answers count as wrong only because of white space or case, and what to do about it."""
    fix = "if this is not intended, add `filters: [strip]`, a `stop`, or a metric's `ignore_case`"
    return [
        f"{warned.model} on {warned.dataset}: {warned.near_misses} of {plural(warned.samples, 'answer')} "
        f"wrong only by white space or case; {fix}"
        for warned in warnings(results)
        if warned.near_misses
    ]


def headline(board: Leaderboard) -> str:
    """A sentence on which model leads and which are not distinguishable from it; "" without a mean.

    If the mean includes parts of data sets, the sentence says so.
    """
    first = board.rows[0]
    if first.mean is None:
        return ""
    scope = f"over {plural(board.counted, 'data set')}"
    if parts := [column.dataset.part for column in board.in_mean if column.dataset.part]:
        named = [f"{column.dataset.name}: {column.dataset.part}" for column in board.in_mean if column.dataset.part]
        several = "; ".join(named) if len(named) <= NAMED else f"{len(parts)} of them in part"
        scope = f"{scope} ({parts[0] if len(board.in_mean) == 1 else several})"
    others = [row for row in board.rows[1:] if row.mean is not None]
    mean = "weighted mean" if board.weights else "mean"
    error = "" if margin(first.mean) == DASH else f" ± {margin(first.mean)}"
    value = f"{figure(first.mean)}{error} %".replace(" ", "\N{NO-BREAK SPACE}")
    if len(board.rows) == 1:
        return f"{first.model.name} reaches a {mean} of {value} {scope}."
    if not others:
        return f"{first.model.name} reaches a {mean} of {value} {scope}; no other model has a mean."
    if not any(row.standing for row in (first, *others)):
        return f"{len(others) + 1} models share the same {mean} of {value} {scope}; none leads."
    equals = [row.model.name for row in others if row.standing]
    lead = f"{first.model.name} leads with a {mean} of {value} {scope}"
    return f"{lead}; {_told_apart(equals, len(others))}."


def same_rows(board: Leaderboard) -> list[str]:
    """Sentences on which data sets of the mean ask about the same rows, and so count as one."""
    sets = {frozenset((column.dataset.name, *column.counted_with)) for column in board.in_mean if column.counted_with}
    names = [column.dataset.name for column in board.in_mean]
    found = sorted(sorted(each, key=names.index) for each in sets)
    return [f"{', '.join(each[:-1])} and {each[-1]} ask about the same rows and count as one" for each in found]


def limits(board: Leaderboard) -> list[str]:
    """For each data set that was asked only in part, the part that was."""
    return [f"{column.dataset.name}: {column.dataset.part}" for column in board.columns if column.dataset.part]


def _told_apart(equals: list[str], others: int) -> str:
    if not equals:
        return "the difference to every other model is significant"
    if len(equals) > 3:
        return f"{len(equals)} of {plural(others, 'other model')} are not distinguishable from it"
    verb = "is" if len(equals) == 1 else "are"
    return f"{' and '.join(equals)} {verb} not distinguishable from it"


def reasons_left_out(board: Leaderboard) -> list[str]:
    """For each data set that the mean leaves out, the reason."""
    alone = [column for column in board.left_out if not column.groups]
    grouped = {
        group: sum(group in column.groups for column in board.left_out) for c in board.left_out for group in c.groups
    }
    inside = [f"{plural(number, 'data set')} of {group} (counted as one)" for group, number in grouped.items()]
    return [*inside, *(f"{column.dataset.name} ({_reason(board, column.dataset.name)})" for column in alone)]


def _reason(board: Leaderboard, name: str) -> str:
    cells = [cell for row in board.rows for cell in row.cells if cell.column.dataset.name == name]
    without = [cell.model for cell in cells if cell.metric is None or cell.metric.value is None]
    if without:
        return f"no result for {', '.join(without[:3])}" + (" and others" if len(without) > 3 else "")
    return f"{cells[0].column.metric} is not a fraction for which higher is better"
