"""The charts of a report: their data as tables, their drawing as Vega-Lite specifications.

https://vega.github.io/vega-lite/docs/ describes those. A page draws them together with their data, so that readers can
choose what is shown; charts_page.py also draws each once as an SVG file.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shardmark.power import LEVEL
from shardmark.records.score import Scores
from shardmark.records.timings import Timings
from shardmark.scoring.comparisons import Table, holm

from .estimates import interval
from .leaderboard import Leaderboard, Row
from .pair import Pair
from .profiles import SHARES, Profile
from .site import Site

Json = dict[str, Any]
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31"]
"Distinguishable with colour blindness, too (M. Okabe and K. Ito, 2008); the same on light and dark pages."
ACCENT, GREY = "#0072B2", "#8a93a0"
HOUR = 3600
UNITS, FEWEST = (("hours", HOUR), ("minutes", 60), ("seconds", 1)), 3
"The units of times, and the least that the longest time must be in its unit."
MEAN = "mean"
DRAWN = 60
"The most scores that a page shows all at once."
WIDE = 40
"The most data sets of a heat map that is as wide as the page."
SCORES = ("model", "dataset", "metric", "value", "low", "high")


@dataclass(frozen=True)
class Chart:
    """A chart: the name of its files, its title, its note, its table, and its specification."""

    name: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    spec: Json

    def with_data(self) -> Json:
        """The specification with its table inserted."""
        return {**self.spec, "data": {"values": [dict(zip(self.columns, row, strict=True)) for row in self.rows]}}


def charts_of(site: Site) -> list[Chart]:
    """The charts that the results of a run allow."""
    found = [
        *(_scores(site) if is_large(site.board) else ()),
        _differences(site),
        *_costs(site),
        _calibration(site),
        _calibration_error(site),
        _lengths(site),
        _times(site),
    ]
    return [chart for chart in found if chart is not None]


def _spec(**more: Any) -> Json:
    return {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "width": 620, **more}


def _choice(label: str, options: Sequence[str], name: str = "shown") -> Json:
    """A menu of what to show; initially the first option."""
    bind = {"input": "select", "options": list(options), "name": f"{label} "}
    return {"name": name, "value": options[0], "bind": bind}


def _by(field: str, kind: str = "quantitative", **more: Any) -> Json:
    return {"field": field, "type": kind, **more}


def _tips(*fields: str) -> list[Json]:
    texts = {"model", "dataset", "bin", "metric"}
    return [
        _by(f, "nominal" if f in texts else "quantitative", **({} if f in texts else {"format": ".4~g"}))
        for f in fields
    ]


def _models(rows: Sequence[tuple[Any, ...]]) -> Json:
    return _by(
        "model", "nominal", sort=list(dict.fromkeys(row[0] for row in rows)), title=None, axis={"labelLimit": 260}
    )


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
    y = _models(rows)
    tips = _tips("model", "dataset", "metric", "value", "low", "high")
    if shares:
        shaded = [row for row in rows if row[1] in {*shares}]
        is_wide = len(shares) > WIDE
        axis = {"orient": "top", "labelAngle": -90 if is_wide else -45, "labelLimit": 160}
        x = _by("dataset", "nominal", sort=shares, title=None, axis=axis)
        legend: Json = {"legend": {"orient": "top"}} if is_wide else {}  # in sight before the page is scrolled sideways
        colour = _by("value", title="score", scale={"domain": [0, 1], "scheme": "viridis"}, **legend)
        spec = _spec(height={"step": 18}, mark="rect", encoding={"x": x, "y": y, "color": colour, "tooltip": tips})
        spec |= {"width": {"step": 15}} if is_wide else {}
        note = "Primary metrics that are fractions, from 0 to 1."
        yield Chart("heat-map", "Heat map", note, SCORES, shaded, spec)
    spec = _spec(
        height={"step": 22},
        params=[_choice("On", [name for name in columns if any(row[1] == name for row in rows)])],
        transform=[{"filter": "datum.dataset == shown"}],
        layer=[
            {
                "mark": {"type": "rule", "strokeWidth": 2, "color": ACCENT},
                "encoding": {"x": _by("low", title="score", scale={"zero": False}), "x2": {"field": "high"}, "y": y},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1, "color": ACCENT},
                "encoding": {"x": _by("value"), "y": y, "tooltip": tips},
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
    y = _models(rows)
    colour = {"condition": {"test": f"datum.p < {LEVEL}", "value": ACCENT}, "value": GREY}
    spec = _spec(
        height={"step": 22},
        params=[_choice("On", shown)],
        transform=[{"filter": "datum.dataset == shown"}],
        layer=[
            {"mark": {"type": "rule", "strokeDash": [4, 3], "color": GREY}, "encoding": {"x": {"datum": 0}}},
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {
                    "x": _by("low", title=f"difference to {best}"),
                    "x2": {"field": "high"}, "y": y, "color": colour,
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {
                    "x": _by("difference"), "y": y, "color": colour,
                    "tooltip": _tips("model", "dataset", "difference", "low", "high", "p"),
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
        yield (other, name, *(_rounded(scale * number) for number in numbers), _rounded(p))


def _value(site: Site, model: str, dataset: str) -> float | None:
    pair = site.results.get(model, dataset)
    return pair.scores.main.value if pair else None


def _rounded(value: float | None) -> float | None:
    """A number with six significant digits, which is enough for files; None if it is not finite."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


COSTS = {
    "parameters": ("Parameters", "parameters of the model"),
    "gpu_hours": ("GPU-hours", "GPU hours: hours of inference times GPUs, over all data sets that were run"),
    "tokens": ("Tokens", "tokens read and written by an endpoint, or written with reasoning, for all data sets"),
    "money": ("Money", "the endpoint’s charges for all data sets, in the currency of the model’s price"),
}
"Measures that a score may be plotted against: a title, and a description."


def _costs(site: Site) -> Iterator[Chart]:
    """The mean against its cost; a chart for each measure that at least two models have."""
    rows = [_cost(site, row) for row in site.board.rows if row.mean is not None and row.mean.value is not None]
    columns = ("model", "mean", "low", "high", *COSTS)
    for place, (measure, (title, what)) in enumerate(COSTS.items(), 4):
        known = [(*row[:4], row[place]) for row in rows if row[place]]
        if len(known) > 1:
            x = _by(measure, title=what, scale={"type": "log"}, axis={"format": "~s", "grid": False})
            y = _by("mean", title="mean, %", scale={"zero": False})
            layers: list[Json] = [
                {
                    "mark": {"type": "rule", "opacity": 0.5, "color": ACCENT},
                    "encoding": {"x": x, "y": _by("low", title="mean, %"), "y2": {"field": "high"}},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1, "color": ACCENT},
                    "encoding": {"x": x, "y": y, "tooltip": _tips("model", "mean", "low", "high", measure)},
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
                _spec(height=320, layer=layers),
            )


def _cost(site: Site, row: Row) -> tuple[Any, ...]:
    pairs = [pair for pair in site.results if pair.scores.model.name == row.model.name]
    times = [pair.timings for pair in pairs if pair.timings]
    mean = row.mean
    assert mean is not None
    ends = interval(mean) or (None, None)
    hours = sum(each.seconds for each in times) * row.model.num_gpus / HOUR
    parameters = next((each.parameters for each in times if each.parameters), None)
    tokens = [_tokens(pair.scores, pair.timings) for pair in pairs]
    money = [each.usage.money for each in times if each.usage and each.usage.money is not None]
    shares = [_rounded(None if value is None else 100 * value) for value in (mean.value, *ends)]
    return (
        row.model.name, *shares, parameters, _rounded(hours) or None,
        sum(each for each in tokens if each) or None, _rounded(sum(money)) or None,
    )  # fmt: skip


def _tokens(scores: Scores, timings: Timings | None) -> int:
    if timings and timings.usage:
        return timings.usage.read + timings.usage.written
    how = scores.counts.reasoning
    return (how.thought_tokens or 0) + (how.answer_tokens or 0) if how else 0


def _ordered(site: Site) -> list[Pair]:
    """The pairs, by model in the order of the leaderboard."""
    order = {row.model.name: place for place, row in enumerate(site.board.rows)}
    return sorted(site.results, key=lambda pair: order[pair.scores.model.name])


def _profiled(site: Site) -> Iterator[tuple[Pair, Profile]]:
    """The pairs with the profiles of their answers."""
    return ((pair, part.profile) for pair in _ordered(site) if (part := site.parts.of(pair)))


def _names(pair: Pair) -> tuple[str, str]:
    return pair.scores.model.name, pair.scores.dataset.name


def _calibration(site: Site) -> Chart | None:
    """How often models are right, by their confidence: a reliability diagram."""
    rows = [
        (*_names(pair), number, each.n, _rounded(each.confidence), _rounded(each.right / each.n))
        for pair, profile in _profiled(site)
        for number, each in enumerate(profile.calibration)
        if each.n
    ]
    if not rows:
        return None
    models, datasets = (list(dict.fromkeys(str(row[place]) for row in rows)) for place in (0, 1))
    is_crowded = len(models) > len(COLOURS)
    colour = _by("model", "nominal", sort=models, scale={"range": COLOURS})
    axes = {
        "x": _by("confidence", title="confidence (share of the choice)", scale={"domain": [0, 1]}),
        "y": _by("accuracy", title="share of right choices", scale={"domain": [0, 1]}),
    }
    chosen = {"condition": {"param": "picked", "value": 1}, "value": 0.15}
    diagonal = {"values": [{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]}
    spec = _spec(
        height=360,
        params=[_choice("On", datasets), *([_choice("Of", models, "chosen")] if is_crowded else [])],
        layer=[
            {"data": diagonal, "mark": {"type": "line", "strokeDash": [4, 3], "color": GREY}, "encoding": axes},
            {
                "params": [{"name": "picked", "select": {"type": "point", "fields": ["model"]}, "bind": "legend"}],
                "transform": [{"filter": "datum.dataset == shown" + " && datum.model == chosen" * is_crowded}],
                "mark": {"type": "line", "point": {"filled": True, "size": 60}},
                "encoding": {
                    **axes, "color": colour, "opacity": chosen,
                    "tooltip": _tips("model", "dataset", "n", "confidence", "accuracy"),
                },
            },
        ],
    )  # fmt: skip
    note = (
        "Choices in ten bins by how sure the model is: its share of the choices’ probabilities (softmax of summed "
        "log-likelihoods). On the dashed line, a model is right as often as it is sure. Click the legend to pick a "
        "model."
    )
    return Chart(
        "calibration",
        "Calibration of choices",
        note,
        ("model", "dataset", "bin", "n", "confidence", "accuracy"),
        rows,
        spec,
    )


def _calibration_error(site: Site) -> Chart | None:
    rows = [
        (*_names(pair), _rounded(error))
        for pair, profile in _profiled(site)
        if (error := profile.calibration_error) is not None
    ]
    if not rows:
        return None
    x = _by("calibration_error", title="expected calibration error")
    spec = _spec(
        height={"step": 22},
        params=[_choice("On", list(dict.fromkeys(row[1] for row in rows)))],
        transform=[{"filter": "datum.dataset == shown"}],
        mark={"type": "bar", "color": ACCENT, "height": {"band": 0.6}},
        encoding={"x": x, "y": _models(rows), "tooltip": _tips("model", "dataset", "calibration_error")},
    )
    note = (
        "How far confidence is from accuracy, on average over choices (ECE; Guo et al. 2017, ten bins of equal width)."
    )
    return Chart("calibration-error", "Calibration error", note, ("model", "dataset", "calibration_error"), rows, spec)


def _lengths(site: Site) -> Chart | None:
    """The lengths of outputs, and how many are cut."""
    rows: list[tuple[Any, ...]] = [
        (*_names(pair), *profile.lengths, _rounded(100 * profile.cut / profile.outputs))
        for pair, profile in _profiled(site)
        if profile.lengths
    ]
    if not rows:
        return None
    quantiles = tuple(f"p{round(100 * share)}" for share in SHARES)
    y = _models(rows)
    label = "format(datum.cut_percent, '.1f') + ' % cut'"
    tips = _tips("model", "dataset", *quantiles, "cut_percent")
    spec = _spec(
        height={"step": 24},
        params=[_choice("On", list(dict.fromkeys(row[1] for row in rows)))],
        transform=[{"filter": "datum.dataset == shown"}],
        layer=[
            {
                "mark": {"type": "rule", "color": GREY},
                "encoding": {"x": _by("p10", title="characters of an output"), "x2": {"field": "p90"}, "y": y},
            },
            {
                "mark": {"type": "bar", "color": ACCENT, "opacity": 0.55, "height": {"band": 0.55}},
                "encoding": {"x": _by("p25"), "x2": {"field": "p75"}, "y": y, "tooltip": tips},
            },
            {
                "mark": {"type": "tick", "thickness": 2, "color": ACCENT},
                "encoding": {"x": _by("p50"), "y": y, "tooltip": tips},
            },
            {
                "transform": [{"filter": "datum.cut_percent > 0"}, {"calculate": label, "as": "label"}],
                "mark": {"type": "text", "align": "left", "dx": 6},
                "encoding": {"x": _by("p90"), "y": y, "text": {"field": "label"}},
            },
        ],
    )
    note = (
        "Bars: the middle half of lengths; lines: four fifths; ticks: the median. Cut outputs ended at a limit or "
        "within a thought."
    )
    return Chart("lengths", "Lengths and cuts", note, ("model", "dataset", *quantiles, "cut_percent"), rows, spec)


def _times(site: Site) -> Chart | None:
    """The time of inference and its cost, by data set."""
    rows = [
        (*_names(pair), _rounded(took.seconds), _rounded(took.load_seconds), took.usage.money if took.usage else None)
        for pair in _ordered(site)
        if (took := pair.timings)
    ]
    if not rows:
        return None
    totals: dict[str, float] = defaultdict(float)
    for model, _, took_seconds, *_ in rows:
        totals[model] += took_seconds or 0
    unit, seconds = next(each for each in UNITS if max(totals.values()) >= FEWEST * each[1] or each == UNITS[-1])
    datasets = list(dict.fromkeys(row[1] for row in rows))
    shades = {"color": _by("dataset", "nominal", sort=datasets, scale={"range": COLOURS}, title="data set")}
    spec = _spec(
        height={"step": 24},
        mark={"type": "bar", "height": {"band": 0.65}, "color": ACCENT},
        transform=[{"calculate": f"datum.seconds / {seconds}", "as": unit}],
        encoding={
            "x": _by(unit, title=f"{unit} of inference", stack="zero"),
            "y": _models(rows),
            **(shades if len(datasets) <= len(COLOURS) else {}),
            "tooltip": _tips("model", "dataset", "seconds", "load_seconds", "money"),
        },
    )
    note = (
        "Total seconds of all jobs, without loading the model, even if they ran at once; answers reused from other "
        "runs cost nothing here."
    )
    return Chart(
        "times",
        "Time and cost of each model",
        note,
        ("model", "dataset", "seconds", "load_seconds", "money"),
        rows,
        spec,
    )
