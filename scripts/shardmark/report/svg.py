"""Common code of the charts: Altair charts as SVG elements, with the page's colours and fonts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from .text import shortened

if TYPE_CHECKING:
    import altair as alt

CHARACTER = 8.6  # width in px to allow for a 12 px letter: the reader's font is not known here
SVG = "http://www.w3.org/2000/svg"

# Colours are the page's: `currentColor` and its CSS variables follow the reader's light or dark scheme.
THEME: dict[str, Any] = {
    "background": None,
    "padding": 2,
    "view": {"stroke": None},
    "axis": {
        "aria": False, "domain": False, "ticks": False, "title": None, "labelPadding": 8,
        "labelFontSize": 12, "labelColor": "currentColor", "gridColor": "var(--line)",
    },
    "text": {"fontSize": 12, "fill": "currentColor"},
}  # fmt: skip


def model_axis(models: list[str], characters: int) -> alt.Axis:
    """An axis of model names, each shortened to at most `characters` characters."""
    import altair as alt

    labels = {model: shortened(model, characters) for model in models}
    width = CHARACTER * max(map(len, labels.values()))
    return alt.Axis(labelExpr=label_expression(labels), labelLimit=0, minExtent=width + 8)


def label_expression(labels: Mapping[str, str | list[str]]) -> str:
    """The Vega expression that replaces an axis's labels; a list is a label of several lines."""
    return f"{json.dumps(labels)}[datum.label]"


def svg_of(chart: alt.TopLevelMixin, label: str) -> Markup:
    """Draw an Altair chart as an SVG element named `label`, without a script, style sheet or font.

    Marks with a description get it as a title, which browsers show on hovering.
    """
    import altair as alt
    import vl_convert

    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    text = vl_convert.vegalite_to_svg(chart.to_dict(), vl_version=version, config=THEME)
    root = ElementTree.fromstring(text)
    for element in list(root.iter()):
        _inherit_font(element)
        _add_title(element)
    root.set("role", "img")
    root.set("aria-label", label)
    ElementTree.register_namespace("", SVG)
    # Parsed and written again, the markup is well-formed and every text in it is escaped.
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _inherit_font(element: ElementTree.Element) -> None:
    element.attrib.pop("font-family", None)


def _add_title(element: ElementTree.Element) -> None:
    label = element.get("aria-label")
    if label and element.get("role") == "graphics-symbol":
        title = ElementTree.Element(f"{{{SVG}}}title")
        title.text = label
        element.insert(0, title)
