"""The page of charts: each is drawn in the page from a chunk, and written as SVG and CSV files in `charts/`."""

import csv
import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import vega
from .charts import SCORES, charts_of, is_large, scores
from .chunks import FOLDER, link
from .exports import cell_text
from .heatmap import heat_map
from .intervals import interval_panels, mean_panel
from .remarks import limits
from .render import write_text
from .results import Results
from .site import Page, Site
from .vega_lite import Chart

SCRIPTS = ("loader.js", "text.js", "charts.js")
VEGA = "vega.js"
"The script that draws charts, in `data/`."
INK, LINE = "#14171c", "#e4e7ec"
LIGHT = {
    "currentColor": INK, "var(--line)": LINE, "var(--muted)": "#5a6371", "var(--edge)": "#b4bcc8",
    "var(--accent)": "#1d4bc9", "var(--heat)": "#1e49c4", "var(--on-heat)": "#fff", "var(--paper)": "#fff",
}  # fmt: skip
"The colours of a light page (style.css), for files that are used without it."
SVG_STYLE: dict[str, Any] = {
    "background": "#fff",
    "font": "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif",
    "axis": {"labelColor": INK, "titleColor": INK, "gridColor": LINE, "domainColor": "#b4bcc8", "tickColor": "#b4bcc8"},
    "axisX": {"tickCount": 8},
    "axisY": {"labelLimit": 260},
    "legend": {"labelColor": INK, "titleColor": INK},
    "text": {"fill": INK},
    "view": {"stroke": None},
}


class Figure(NamedTuple):
    """A chart in the page: its name, title and note, and the chunk of its specification and table."""

    name: str
    title: str
    note: str
    chunk: str


def wanted(results: Results) -> bool:
    """Whether there is anything to draw."""
    return any(True for _ in results)


def write_charts(site: Site, page: Page) -> None:
    """Write the page, its chunks, the script that draws, and the files of each chart."""
    board, charts = site.board, charts_of(site)
    (site.folder / "charts").mkdir()
    if charts:
        _write_vega(site)
    small = not is_large(board)
    heat = heat_map(board) if small else ""
    if small:
        write_text(site.folder / "charts/scores.svg", standalone(str(heat)))
        write_text(site.folder / "charts/scores.csv", table(SCORES, list(scores(board))))
    figures = []
    for chart in charts:
        name = site.chunks.add({"spec": chart.spec, "columns": chart.columns, "rows": chart.rows})
        write_text(site.folder / f"charts/{chart.name}.svg", svg(chart))
        write_text(site.folder / f"charts/{chart.name}.csv", table(chart.columns, chart.rows))
        figures.append(Figure(chart.name, chart.title, chart.note, name))
    site.write(
        page, "charts.html.j2", SCRIPTS, ["charts.css"], figures=figures, vega=f"{FOLDER}/{VEGA}",
        small=small, heat_map=heat, mean_panel=mean_panel(board) if small else None,
        panels=interval_panels(board) if small else [], limits=limits(board),
    )  # fmt: skip


def svg(chart: Chart) -> str:
    """The chart as a separate file, with the initial choices of its menus; the same bytes for the same chart."""
    import vl_convert

    text = str(vl_convert.vegalite_to_svg(chart.with_data(), config=SVG_STYLE))
    names: dict[str, str] = {}  # of clips, whose numbers continue from one chart to the next
    return re.sub(r"\bclip\d+\b", lambda found: names.setdefault(found[0], f"clip{len(names)}"), text)


def standalone(drawing: str) -> str:
    """An SVG element of a page as a separate file, in light colours."""
    for name, colour in LIGHT.items():
        drawing = drawing.replace(name, colour)
    return drawing.replace("<svg ", '<svg font-family="sans-serif" style="background: #fff" ', 1)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A chart's data, for all choices of its menus, as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return out.getvalue()


def _write_vega(site: Site) -> None:
    """Put the script that draws into the report."""
    target = site.folder / FOLDER / VEGA
    if site.parts.results is None:
        write_text(target, vega.vega_script())
    else:
        link(vega.keep_vega(site.parts.results), target)
