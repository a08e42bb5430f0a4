"""Charts in a browser: they are drawn under the page's policy, follow its menus, and fit a phone."""

from pathlib import Path

import pytest

from browser.conftest import Open

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.slow]


@pytest.mark.parametrize("width", [1300, 390])
def test_charts_are_drawn_and_fit(visit: Open, report: Path, width: int) -> None:
    page = visit(report / "charts.html", width=width)
    for canvas in page.locator(".canvas").all():
        canvas.scroll_into_view_if_needed()
        canvas.locator("svg").wait_for()
    assert page.locator(".canvas .failed").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_menu_changes_what_is_shown(visit: Open, site: str) -> None:
    page = visit(f"{site}/charts.html", color_scheme="dark")
    chart = page.locator(".canvas").first
    chart.locator("svg").wait_for()
    assert "demo_tiny" in chart.locator("svg").text_content()
    chart.get_by_role("combobox").select_option("demo_reading_comprehension")
    page.wait_for_function("!document.querySelector('.canvas svg').textContent.includes('demo_tiny')")
