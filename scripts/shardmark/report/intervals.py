"""Estimates with their 95 % intervals as dots with whiskers, a small chart for each data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, floor
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from shardmark.records.score import Metric

from .estimates import interval
from .formats import described, figure, plural
from .leaderboard import Cell, Column, Leaderboard
from .svg import model_axis, svg_of
from .text import shortened

if TYPE_CHECKING:
    import altair as alt

PANEL_WIDTH = 340  # px; fits a phone 375 px wide
FIGURES = 60  # px for the numbers beside the dots
BESIDE = 17  # characters of a name that still leave room for the dots beside it


class Panel(NamedTuple):
    """An interval chart with the text of its caption: name, metric with unit, and a remark or ""."""

    title: str
    metric: str
    remark: str
    svg: Markup


class _Estimate(NamedTuple):
    model: str
    metric: Metric | None
    standing: str


def mean_panel(board: Leaderboard) -> Panel | None:
    """Draw the models' means; None if fewer than two data sets count."""
    if len(board.in_mean) < 2:
        return None
    means = [_Estimate(row.model.name, row.mean, row.standing) for row in board.rows]
    svg = _panel("Mean", means, _percent_axis(board), None)
    parts = sum(bool(column.dataset.part) for column in board.in_mean)
    remark = f"of {plural(board.counted, 'data set')}" + f", {parts} in part" * bool(parts)
    remark += ", weighted" * bool(board.weights)
    return Panel("Mean", "%", remark, svg)


def interval_panels(board: Leaderboard) -> list[Panel]:
    """Draw every column; those of fractions share one axis, so that they can be compared."""
    shared = _percent_axis(board)
    return [_column_panel(board, column, shared) for column in board.columns if column.metric]


def _column_panel(board: Leaderboard, column: Column, shared: alt.X) -> Panel:
    estimates = _estimates(board.cells(column))
    axis = shared if column.percent else _own_axis(_ends(estimates))
    svg = _panel(column.dataset.name, estimates, axis, _scaled(column.dataset.chance, column.percent))
    unit = f"{column.metric}, %" if column.percent else column.metric
    remarks = ["" if column.higher_is_better else "lower is better", column.dataset.part]
    return Panel(column.dataset.name, unit, ", ".join(filter(None, remarks)), svg)


def _estimates(cells: Iterable[Cell]) -> list[_Estimate]:
    return [_Estimate(cell.model, cell.metric, cell.standing) for cell in cells]


def _ends(estimates: Iterable[_Estimate]) -> list[float]:
    """The ends of all intervals, and the values, which a bootstrap's interval need not contain."""
    metrics = [item.metric for item in estimates if item.metric is not None]
    return [end for m in metrics if m.value is not None for end in (m.value, *(interval(m) or ()))]


def _percent_axis(board: Leaderboard) -> alt.X:
    """The axis for fractions in percent: whole tens around all intervals and chance levels."""
    columns = [column for column in board.columns if column.percent]
    ends = [end for column in columns for end in _ends(_estimates(board.cells(column)))]
    ends += [column.dataset.chance for column in columns if column.dataset.chance is not None]
    low, high = whole_tens(min(ends, default=0.0), max(ends, default=1.0))
    step = 20 if high - low > 50 else 10
    return _axis([low, high], values=[tick for tick in range(0, 101, step) if low <= tick <= high])


def whole_tens(low: float, high: float) -> tuple[int, int]:
    """The narrowest range of whole tens, in percent and within 0 to 100, around two fractions."""
    # The small term keeps rounding errors such as 0.7 * 10 = 7.000000000000001 from adding a ten.
    first, last = floor(max(0.0, low) * 10 + 1e-9) * 10, ceil(min(1.0, high) * 10 - 1e-9) * 10
    first = min(first, 90)
    return first, max(last, first + 10)


def _own_axis(ends: Sequence[float]) -> alt.X:
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return _axis([low - room, high + room], tickCount=4)


def _axis(domain: Sequence[float], **ticks: Any) -> alt.X:
    import altair as alt

    scale = alt.Scale(domain=list(domain), zero=False, nice=False)
    axis = alt.Axis(**ticks, labelFlush=False, labelColor="var(--muted)", labelFontSize=11)
    return alt.X("value:Q", scale=scale, axis=axis)


def _panel(title: str, estimates: list[_Estimate], x: alt.X, chance: float | None) -> Markup:
    """Draw one chart; names too long to fit beside the dots are above them."""
    import altair as alt

    models = [item.model for item in estimates]
    above = max(map(len, models)) > BESIDE
    names = alt.Axis(labels=False) if above else model_axis(models, BESIDE)
    rows = [_dot(item, title, alone=len(estimates) == 1) for item in estimates]
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=alt.Y("model:N", sort=models, axis=names))
    drop = 7 if above else 0
    layers = [_whiskers(base, drop), _dots(base, x, drop), _numbers(base, drop)]
    layers += [_names(base)] if above else []
    if chance is not None:
        layers.insert(0, _chance_line(chance))
    beside = 0 if above else names.minExtent
    size = {"width": round(PANEL_WIDTH - beside - FIGURES), "height": alt.Step(40 if above else 28)}
    return svg_of(alt.layer(*layers).properties(**size), f"{title}: estimates with 95 % intervals")


def _dot(item: _Estimate, title: str, alone: bool) -> dict[str, Any]:
    percent = item.metric is not None and item.metric.percent
    ends = interval(item.metric) if item.metric else None
    return {
        "model": item.model,
        "name": shortened(item.model, 44),
        "standing": "best" if alone else item.standing,
        "value": _scaled(item.metric.value if item.metric else None, percent),
        "low": _scaled(ends[0], percent) if ends else None,
        "high": _scaled(ends[1], percent) if ends else None,
        "text": figure(item.metric) if item.metric else "not run",
        "about": f"{item.model}, {title}: {described(item.metric)}",
    }


def _scaled(value: float | None, percent: bool) -> float | None:
    return value * 100 if percent and value is not None else value


def _ink() -> Any:
    import altair as alt

    marked = alt.when("datum.standing != ''").then(alt.value("var(--accent)"))
    return marked.otherwise(alt.value("var(--muted)"))


def _whiskers(base: alt.Chart, drop: float) -> alt.Chart:
    return (
        base.mark_rule(yOffset=drop, strokeWidth=2, strokeCap="round", aria=False)
        .encode(x="low:Q", x2="high:Q", stroke=_ink())
        .transform_filter("isValid(datum.low)")
    )


def _dots(base: alt.Chart, x: alt.X, drop: float) -> alt.Chart:
    import altair as alt

    fill = alt.when("datum.standing == 'tied'").then(alt.value("var(--paper)"))
    fill = fill.when("datum.standing == 'best'").then(alt.value("var(--accent)"))
    return (
        base.mark_point(yOffset=drop, shape="circle", size=64, strokeWidth=2, opacity=1, fillOpacity=1)
        .encode(x=x, stroke=_ink(), fill=fill.otherwise(alt.value("var(--muted)")), description="about:N")
        .transform_filter("isValid(datum.value)")
    )


def _numbers(base: alt.Chart, drop: float) -> alt.Chart:
    import altair as alt

    fill = alt.when("!isValid(datum.value)").then(alt.value("var(--muted)"))
    fill = fill.when("datum.standing != ''").then(alt.value("var(--accent)"))
    return base.mark_text(align="right", dy=drop, aria=False).encode(
        x=alt.value(alt.ExprRef("width + 46")), text="text:N", fill=fill.otherwise(alt.value("currentColor"))
    )


def _names(base: alt.Chart) -> alt.Chart:
    import altair as alt

    return base.mark_text(align="left", dy=-9, aria=False).encode(x=alt.value(0), text="name:N")


def _chance_line(chance: float) -> alt.Chart:
    import altair as alt

    return (
        alt.Chart(alt.InlineData(values=[{"value": chance, "about": f"chance level {chance:.4g}"}]))
        .mark_rule(stroke="var(--warn)", strokeDash=[2, 3], strokeWidth=1.5)
        .encode(x="value:Q", description="about:N")
    )
