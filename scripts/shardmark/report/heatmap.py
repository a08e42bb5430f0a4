"""The heat map of models and data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from .formats import described, figure
from .leaderboard import Cell, Leaderboard
from .svg import CHARACTER, label_expression, model_axis, svg_of
from .text import broken, shortened

if TYPE_CHECKING:
    import altair as alt

STRONG = 0.76  # from here on the ink is so heavy that light figures contrast better than dark ones
FAINTEST, HEAVIEST = 0.05, 0.95  # opacity of the ink at 0 and at 1
LINE = 15  # px from one line of a heading to the next


def heat_map(board: Leaderboard) -> Markup:
    """Draw the primary metrics as a grid: fractions inked by value from 0 to 1, others left blank."""
    import altair as alt

    names = [column.dataset.name for column in board.columns]
    headings = _level({name: [shortened(line, 26) for line in broken(name)] for name in names})
    longest = max(len(line) for lines in headings.values() for line in lines)
    models = [row.model.name for row in board.rows]
    y = alt.Y("model:N", sort=models, axis=model_axis(models, 26), scale=alt.Scale(paddingInner=0.1))
    cells = [_cell(cell) for row in board.rows for cell in row.cells]
    base = alt.Chart(alt.InlineData(values=cells)).encode(x=_headed(headings), y=y)
    size = {"width": alt.Step(max(96, CHARACTER * longest + 14)), "height": alt.Step(42)}
    chart = alt.layer(_inked(base), _blank(base), _figures(base)).properties(**size)
    return svg_of(chart, "Heat map of the primary metric of each model on each data set")


def _level(headings: dict[str, list[str]]) -> dict[str, list[str]]:
    """Give all headings the same number of lines, so that their last lines are level."""
    height = max(map(len, headings.values()))
    return {name: [""] * (height - len(lines)) + lines for name, lines in headings.items()}


def _headed(headings: dict[str, list[str]]) -> alt.X:
    import altair as alt

    height = max(map(len, headings.values()))
    axis = alt.Axis(
        orient="top", labelAngle=0, labelOverlap=False, labelLimit=0,
        labelExpr=label_expression(headings), labelLineHeight=LINE, labelPadding=LINE * height - 7,
    )  # fmt: skip
    scale = alt.Scale(paddingInner=0.04, paddingOuter=0)
    return alt.X("dataset:N", sort=list(headings), axis=axis, scale=scale)


def _cell(cell: Cell) -> dict[str, Any]:
    shade = cell.metric.value if cell.metric and cell.metric.percent else None
    name = cell.column.dataset.name
    value = cell.gap.status if cell.gap else described(cell.metric)
    return {
        "model": cell.model, "dataset": name, "shade": shade,
        "text": figure(cell.metric) if cell.metric else cell.absence,
        "missing": cell.metric is None, "strong": shade is not None and shade >= STRONG,
        "about": f"{cell.model} on {name}: {cell.column.metric} {value}",
    }  # fmt: skip


def _inked(base: alt.Chart) -> alt.Chart:
    import altair as alt

    scale = alt.Scale(domain=[0, 1], range=[FAINTEST, HEAVIEST], clamp=True)
    return (
        base.mark_rect(fill="var(--heat)", cornerRadius=4)
        .encode(fillOpacity=alt.FillOpacity("shade:Q", legend=None, scale=scale), description="about:N")
        .transform_filter("isValid(datum.shade)")
    )


def _blank(base: alt.Chart) -> alt.Chart:
    return (
        base.mark_rect(fill="transparent", stroke="var(--edge)", strokeDash=[3, 3], cornerRadius=4)
        .encode(description="about:N")
        .transform_filter("!isValid(datum.shade)")
    )


def _figures(base: alt.Chart) -> alt.Chart:
    import altair as alt

    fill = alt.when("datum.strong").then(alt.value("var(--on-heat)"))
    fill = fill.when("datum.missing").then(alt.value("var(--muted)"))
    return base.mark_text(aria=False).encode(text="text:N", fill=fill.otherwise(alt.value("currentColor")))
