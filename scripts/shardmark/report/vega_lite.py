"""The parts of charts as Vega-Lite specifications, which https://vega.github.io/vega-lite/docs/ describes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Json = dict[str, Any]
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31"]
"Distinguishable with colour blindness, too (M. Okabe and K. Ito, 2008); the same on light and dark pages."
ACCENT, GREY = "#0072B2", "#8a93a0"


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


def spec_of(**more: Any) -> Json:
    """A specification with these keys."""
    return {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "width": 620, **more}


def choice(label: str, options: Sequence[str], name: str = "shown") -> Json:
    """A menu of what to show; initially the first option."""
    bind = {"input": "select", "options": list(options), "name": f"{label} "}
    return {"name": name, "value": options[0], "bind": bind}


def by(field: str, kind: str = "quantitative", **more: Any) -> Json:
    """The encoding of a channel by a field."""
    return {"field": field, "type": kind, **more}


def tips_of(*fields: str) -> list[Json]:
    """The channels of a tooltip that shows these fields."""
    texts = {"model", "dataset", "bin", "metric"}
    return [
        by(f, "nominal" if f in texts else "quantitative", **({} if f in texts else {"format": ".4~g"})) for f in fields
    ]


def by_model(rows: Sequence[tuple[Any, ...]]) -> Json:
    """The axis of models, in the order of the rows, which begin with their names."""
    return by("model", "nominal", sort=list(dict.fromkeys(row[0] for row in rows)), title=None)


def rounded(value: float | None) -> float | None:
    """A number with six significant digits, which is enough for files; None if it is not finite."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")
