"""Charts of the answers behind the scores: how sure models were, how long they wrote, how long they took."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from .pair import Pair
from .profiles import SHARES, Profile
from .site import Site
from .vega_lite import ACCENT, COLOURS, GREY, Chart, by, by_model, choice, rounded, spec_of, tips_of

UNITS, FEWEST = (("hours", 3600), ("minutes", 60), ("seconds", 1)), 3
"The units of times, and the least that the longest time must be in its unit."


def _ordered(site: Site) -> list[Pair]:
    """The pairs, by model in the order of the leaderboard."""
    order = {row.model.name: place for place, row in enumerate(site.board.rows)}
    return sorted(site.results, key=lambda pair: order[pair.scores.model.name])


def _profiled(site: Site) -> Iterator[tuple[Pair, Profile]]:
    """The pairs with the profiles of their answers."""
    return ((pair, part.profile) for pair in _ordered(site) if (part := site.parts.of(pair)))


def _names(pair: Pair) -> tuple[str, str]:
    return pair.scores.model.name, pair.scores.dataset.name


def calibration(site: Site) -> Chart | None:
    """How often models are right, by their confidence: a reliability diagram."""
    rows = [
        (*_names(pair), number, each.n, rounded(each.confidence), rounded(each.right / each.n))
        for pair, profile in _profiled(site)
        for number, each in enumerate(profile.calibration)
        if each.n
    ]
    if not rows:
        return None
    models, datasets = (list(dict.fromkeys(str(row[place]) for row in rows)) for place in (0, 1))
    is_crowded = len(models) > len(COLOURS)
    colour = by("model", "nominal", sort=models, scale={"range": COLOURS})
    axes = {
        "x": by("confidence", title="confidence (share of the choice)", scale={"domain": [0, 1]}),
        "y": by("accuracy", title="share of right choices", scale={"domain": [0, 1]}),
    }
    chosen = {"condition": {"param": "picked", "value": 1}, "value": 0.15}
    diagonal = {"values": [{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]}
    spec = spec_of(
        height=360,
        params=[choice("On", datasets), *([choice("Of", models, "chosen")] if is_crowded else [])],
        layer=[
            {"data": diagonal, "mark": {"type": "line", "strokeDash": [4, 3], "color": GREY}, "encoding": axes},
            {
                "params": [{"name": "picked", "select": {"type": "point", "fields": ["model"]}, "bind": "legend"}],
                "transform": [{"filter": "datum.dataset == shown" + " && datum.model == chosen" * is_crowded}],
                "mark": {"type": "line", "point": {"filled": True, "size": 60}},
                "encoding": {
                    **axes, "color": colour, "opacity": chosen,
                    "tooltip": tips_of("model", "dataset", "n", "confidence", "accuracy"),
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


def calibration_error(site: Site) -> Chart | None:
    rows = [
        (*_names(pair), rounded(error))
        for pair, profile in _profiled(site)
        if (error := profile.calibration_error) is not None
    ]
    if not rows:
        return None
    x = by("calibration_error", title="expected calibration error")
    spec = spec_of(
        height={"step": 22},
        params=[choice("On", list(dict.fromkeys(row[1] for row in rows)))],
        transform=[{"filter": "datum.dataset == shown"}],
        mark={"type": "bar", "color": ACCENT, "height": {"band": 0.6}},
        encoding={"x": x, "y": by_model(rows), "tooltip": tips_of("model", "dataset", "calibration_error")},
    )
    note = (
        "How far confidence is from accuracy, on average over choices (ECE; Guo et al. 2017, ten bins of equal width)."
    )
    return Chart("calibration-error", "Calibration error", note, ("model", "dataset", "calibration_error"), rows, spec)


def lengths(site: Site) -> Chart | None:
    """The lengths of outputs, and how many are cut."""
    rows: list[tuple[Any, ...]] = [
        (*_names(pair), *profile.lengths, rounded(100 * profile.cut / profile.outputs))
        for pair, profile in _profiled(site)
        if profile.lengths
    ]
    if not rows:
        return None
    quantiles = tuple(f"p{round(100 * share)}" for share in SHARES)
    y = by_model(rows)
    label = "format(datum.cut_percent, '.1f') + ' % cut'"
    tips = tips_of("model", "dataset", *quantiles, "cut_percent")
    spec = spec_of(
        height={"step": 24},
        params=[choice("On", list(dict.fromkeys(row[1] for row in rows)))],
        transform=[{"filter": "datum.dataset == shown"}],
        layer=[
            {
                "mark": {"type": "rule", "color": GREY},
                "encoding": {"x": by("p10", title="characters of an output"), "x2": {"field": "p90"}, "y": y},
            },
            {
                "mark": {"type": "bar", "color": ACCENT, "opacity": 0.55, "height": {"band": 0.55}},
                "encoding": {"x": by("p25"), "x2": {"field": "p75"}, "y": y, "tooltip": tips},
            },
            {
                "mark": {"type": "tick", "thickness": 2, "color": ACCENT},
                "encoding": {"x": by("p50"), "y": y, "tooltip": tips},
            },
            {
                "transform": [{"filter": "datum.cut_percent > 0"}, {"calculate": label, "as": "label"}],
                "mark": {"type": "text", "align": "left", "dx": 6},
                "encoding": {"x": by("p90"), "y": y, "text": {"field": "label"}},
            },
        ],
    )
    note = (
        "Bars: the middle half of lengths; lines: four fifths; ticks: the median. Cut outputs ended at a limit or "
        "within a thought."
    )
    return Chart("lengths", "Lengths and cuts", note, ("model", "dataset", *quantiles, "cut_percent"), rows, spec)


def times(site: Site) -> Chart | None:
    """The time of inference and its cost, by data set."""
    rows = [
        (*_names(pair), rounded(took.seconds), rounded(took.load_seconds), took.usage.money if took.usage else None)
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
    shades = {"color": by("dataset", "nominal", sort=datasets, scale={"range": COLOURS}, title="data set")}
    spec = spec_of(
        height={"step": 24},
        mark={"type": "bar", "height": {"band": 0.65}, "color": ACCENT},
        transform=[{"calculate": f"datum.seconds / {seconds}", "as": unit}],
        encoding={
            "x": by(unit, title=f"{unit} of inference", stack="zero"),
            "y": by_model(rows),
            **(shades if len(datasets) <= len(COLOURS) else {}),
            "tooltip": tips_of("model", "dataset", "seconds", "load_seconds", "money"),
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
