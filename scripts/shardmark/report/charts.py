"""The charts of a report: their data as tables, their drawing as Vega-Lite specifications.

A page draws them together with their data, so that readers can choose what is shown; charts_page.py also draws each as
an SVG file.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from shardmark.power import LEVEL
from shardmark.records.score import Scores
from shardmark.records.timings import Timings
from shardmark.scoring.comparisons import Table, holm

from .answer_charts import calibration, calibration_error, lengths, times
from .estimates import interval
from .leaderboard import Leaderboard, Row
from .pair import Pair
from .site import Site
from .vega_lite import ACCENT, GREY, Chart, Json, by, by_model, choice, rounded, spec_of, tips_of

HOUR = 3600
MEAN = "mean"
DRAWN = 60
"The most scores that a page shows all at once."
WIDE = 40
"The most data sets of a heat map that is as wide as the page."
SCORES = ("model", "dataset", "metric", "value", "low", "high")


def charts_of(site: Site) -> list[Chart]:
    """The charts that the results of a run allow."""
    found = [
        *(_scores(site) if is_large(site.board) else ()),
        _differences(site),
        *_costs(site),
        calibration(site),
        calibration_error(site),
        lengths(site),
        times(site),
    ]
    return [chart for chart in found if chart is not None]


def is_large(board: Leaderboard) -> bool:
    """Whether a board has more scores than a page shows individually (heatmap.py, intervals.py)."""
    return len(board.rows) * len(board.columns) > DRAWN


def scores(board: Leaderboard) -> Iterator[tuple[Any, ...]]:
    """The scores of a board, one row each (`SCORES`), by model, best first."""
    for row in board.rows:
        for cell in row.cells:
            if cell.metric and cell.metric.value is not None:
                ends = interval(cell.metric) or (None, None)
                yield cell.model, cell.column.dataset.name, cell.column.metric, cell.metric.value, *ends


def _scores(site: Site) -> Iterator[Chart]:
    """All scores as a heat map, and the scores of one data set at a time with their intervals."""
    rows = list(scores(site.board))
    columns = [column.dataset.name for column in site.board.columns]
    shares = [column.dataset.name for column in site.board.columns if column.percent]
    if not rows:
        return
    y = by_model(rows)
    tips = tips_of("model", "dataset", "metric", "value", "low", "high")
    if shares:
        shaded = [row for row in rows if row[1] in {*shares}]
        is_wide = len(shares) > WIDE
        axis = {"orient": "top", "labelAngle": -90 if is_wide else -45, "labelLimit": 160}
        x = by("dataset", "nominal", sort=shares, title=None, axis=axis)
        legend: Json = {"legend": {"orient": "top"}} if is_wide else {}  # in sight before the page is scrolled sideways
        colour = by("value", title="score", scale={"domain": [0, 1], "scheme": "viridis"}, **legend)
        spec = spec_of(height={"step": 18}, mark="rect", encoding={"x": x, "y": y, "color": colour, "tooltip": tips})
        spec |= {"width": {"step": 15}} if is_wide else {}
        note = "Primary metrics that are fractions, from 0 to 1."
        yield Chart("heat-map", "Heat map", note, SCORES, shaded, spec)
    spec = spec_of(
        height={"step": 22},
        params=[choice("On", [name for name in columns if any(row[1] == name for row in rows)])],
        transform=[{"filter": "datum.dataset == shown"}],
        layer=[
            {
                "mark": {"type": "rule", "strokeWidth": 2, "color": ACCENT},
                "encoding": {"x": by("low", title="score", scale={"zero": False}), "x2": {"field": "high"}, "y": y},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1, "color": ACCENT},
                "encoding": {"x": by("value"), "y": y, "tooltip": tips},
            },
        ],
    )
    yield Chart("intervals", "Scores", "Primary metrics with their 95 % intervals.", SCORES, rows, spec)


def _differences(site: Site) -> Chart | None:
    """The difference of each model from the one with the best mean, with 95% intervals."""
    ranked = [row for row in site.board.rows if row.mean is not None and row.mean.value is not None]
    if len(ranked) < 2:
        return None
    best, others = ranked[0].model.name, [row.model.name for row in ranked[1:]]
    in_mean = [column.dataset.name for column in site.board.in_mean]
    columns = [column for column in site.board.columns if column.metric]
    rows = list(_apart(site, MEAN, site.compared.mean(in_mean), best, others, True))
    for column in columns:
        name = column.dataset.name
        known = [other for other in others if _value(site, other, name) is not None]
        if _value(site, best, name) is not None and known:
            rows += _apart(site, name, site.compared.table(name), best, known, column.percent)
    shown = list(dict.fromkeys(row[1] for row in rows))
    y = by_model(rows)
    colour = {"condition": {"test": f"datum.p < {LEVEL}", "value": ACCENT}, "value": GREY}
    spec = spec_of(
        height={"step": 22},
        params=[choice("On", shown)],
        transform=[{"filter": "datum.dataset == shown"}],
        layer=[
            {"mark": {"type": "rule", "strokeDash": [4, 3], "color": GREY}, "encoding": {"x": {"datum": 0}}},
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {
                    "x": by("low", title=f"difference to {best}"),
                    "x2": {"field": "high"}, "y": y, "color": colour,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {
                    "x": by("difference"), "y": y, "color": colour,
                    "tooltip": tips_of("model", "dataset", "difference", "low", "high", "p"),
                },
            },
        ],
    )  # fmt: skip
    note = (
        f"Each model’s score minus that of {best}, which has the best mean, on the same samples, with 95 % intervals "
        "(fractions in percentage points). Coloured where the difference is significant (5 %, Holm’s correction over "
        "the models shown)."
    )
    return Chart(
        "differences",
        "Differences to the best",
        note,
        ("model", "dataset", "difference", "low", "high", "p"),
        rows,
        spec,
    )


def _apart(
    site: Site, name: str, table: Table, best: str, others: Sequence[str], percent: bool
) -> Iterator[tuple[Any, ...]]:
    places, base = [site.compared.models.index(other) for other in others], site.compared.models.index(best)
    adjusted, scale = holm(table.p[places, base]), 100 if percent else 1
    for other, place, p in zip(others, places, adjusted, strict=True):
        numbers = (table.difference[place, base], table.low[place, base], table.high[place, base])
        yield (other, name, *(rounded(scale * number) for number in numbers), rounded(p))


def _value(site: Site, model: str, dataset: str) -> float | None:
    pair = site.results.get(model, dataset)
    return pair.scores.main.value if pair else None


COSTS = {
    "parameters": ("Parameters", "parameters of the model"),
    "gpu_hours": ("GPU-hours", "GPU hours: hours of inference times GPUs, over all data sets that were run"),
    "tokens": ("Tokens", "tokens read and written by an endpoint, or written with reasoning, for all data sets"),
    "money": ("Money", "the endpoint’s charges for all data sets, in the currency of the model’s price"),
}
"Measures that a score may be plotted against: a title, and a description."


def _costs(site: Site) -> Iterator[Chart]:
    """The mean against its cost; a chart for each measure that at least two models have."""
    pairs: dict[str, list[Pair]] = {}
    for pair in site.results:
        pairs.setdefault(pair.scores.model.name, []).append(pair)
    ranked = [row for row in site.board.rows if row.mean is not None and row.mean.value is not None]
    rows = [_cost(row, pairs[row.model.name]) for row in ranked]
    columns = ("model", "mean", "low", "high", *COSTS)
    for place, (measure, (title, what)) in enumerate(COSTS.items(), 4):
        known = [(*row[:4], row[place]) for row in rows if row[place]]
        if len(known) > 1:
            x = by(measure, title=what, scale={"type": "log"}, axis={"format": "~s", "grid": False})
            y = by("mean", title="mean, %", scale={"zero": False})
            layers: list[Json] = [
                {
                    "mark": {"type": "rule", "opacity": 0.5, "color": ACCENT},
                    "encoding": {"x": x, "y": by("low", title="mean, %"), "y2": {"field": "high"}},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1, "color": ACCENT},
                    "encoding": {"x": x, "y": y, "tooltip": tips_of("model", "mean", "low", "high", measure)},
                },
                {
                    "mark": {"type": "text", "align": "left", "dx": 7, "dy": -6, "limit": 180},
                    "encoding": {"x": x, "y": y, "text": {"field": "model"}},
                },
            ]
            note = f"The mean over data sets against {what}; lines are 95 % intervals."
            name = f"mean-by-{measure.replace('_', '-')}"
            yield Chart(
                name,
                f"Score against {title.lower() if measure != 'gpu_hours' else title}",
                note,
                (*columns[:4], measure),
                known,
                spec_of(height=320, layer=layers),
            )


def _cost(row: Row, pairs: Sequence[Pair]) -> tuple[Any, ...]:
    times = [pair.timings for pair in pairs if pair.timings]
    mean = row.mean
    assert mean is not None
    ends = interval(mean) or (None, None)
    hours = sum(each.seconds for each in times) * row.model.num_gpus / HOUR
    parameters = next((each.parameters for each in times if each.parameters), None)
    tokens = [_tokens(pair.scores, pair.timings) for pair in pairs]
    money = [each.usage.money for each in times if each.usage and each.usage.money is not None]
    shares = [rounded(None if value is None else 100 * value) for value in (mean.value, *ends)]
    return (
        row.model.name, *shares, parameters, rounded(hours) or None,
        sum(each for each in tokens if each) or None, rounded(sum(money)) or None,
    )  # fmt: skip


def _tokens(scores: Scores, timings: Timings | None) -> int:
    if timings and timings.usage:
        return timings.usage.read + timings.usage.written
    how = scores.counts.reasoning
    return (how.thought_tokens or 0) + (how.answer_tokens or 0) if how else 0
