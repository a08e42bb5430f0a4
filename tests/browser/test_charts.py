"""Charts in a browser: they are drawn under the page's policy, follow its menus, and fit a phone."""

from pathlib import Path

import pytest

from browser.conftest import Open
from shardmark.report.build import build_report
from unit.report.fake_results import write_results

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.slow]


@pytest.mark.parametrize("width", [1300, 390])
def test_charts_are_drawn_and_fit(visit: Open, report: Path, width: int) -> None:
    page = visit(report / "charts.html", width=width)
    for canvas in page.locator(".canvas").all():
        canvas.scroll_into_view_if_needed()
        canvas.locator("svg").wait_for()
    assert page.locator(".canvas .failed").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_charts_out_of_sight_are_drawn_for_printing(visit: Open, report: Path) -> None:
    page = visit(report / "charts.html", height=200)
    for canvas in page.locator(".canvas").all():
        canvas.locator("svg").wait_for()
    assert page.evaluate("scrollY") == 0
    front = visit(report / "index.html")
    front.emulate_media(media="print")
    assert not front.locator("#board-controls").is_visible()


def test_long_names_leave_room_on_a_phone(visit: Open, tmp_path: Path) -> None:
    """Names of models are cut, columns of the heat map are wide enough for theirs, and tables show numbers."""
    long = "organisation_" * 6 + "model"
    files = write_results(tmp_path, [long, *"abcdefghijk"], [f"{'many_words_' * 6}{n}" for n in range(14)], n=4)
    folder = build_report("r", *files, tmp_path / "out", {}).parent
    page = visit(folder / "charts.html", width=390)
    heat = page.locator(".canvas").first
    heat.locator("svg").wait_for()
    cells = [path.bounding_box()["width"] for path in heat.locator(".mark-rect path").all()[:28]]
    assert min(cells) >= 17
    assert "…" in heat.locator("svg").text_content()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    table = visit(folder / "compare.html", width=390).locator("#table")
    assert table.locator("td").first.bounding_box()["x"] < 200
    rank = visit(folder / "index.html").locator("td.rank").first
    assert rank.evaluate("e => getComputedStyle(e).whiteSpace") == "nowrap"


def test_a_menu_changes_what_is_shown(visit: Open, site: str) -> None:
    page = visit(f"{site}/charts.html", color_scheme="dark")
    chart = page.locator(".canvas").first
    chart.locator("svg").wait_for()
    assert "demo_tiny" in chart.locator("svg").text_content()
    chart.get_by_role("combobox").select_option("demo_reading_comprehension")
    page.wait_for_function("!document.querySelector('.canvas svg').textContent.includes('demo_tiny')")
