"""The pages of a report in a browser: they render, sort, fit all widths, and ask for nothing but themselves."""

from pathlib import Path
from typing import Any

import pytest

from browser.conftest import Open
from requirements_check import need
from shardmark.report import index
from shardmark.report.build import build_report
from unit.report.fake_results import FACTS, write_results

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
PAGES = ["index.html", "compare.html", "charts.html", "samples.html", "metrics.html", "changes.html", "provenance.html"]


def models(page: Any) -> list[str]:
    return list(page.locator(".board tbody th").evaluate_all("cells => cells.map(cell => cell.textContent)"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_every_width_and_has_no_error(visit: Open, report: Path, name: str) -> None:
    page = visit(report / name, width=1400)
    for width in (1400, 768, 420, 360):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_long_names_wrap_and_all_rows_are_printed(visit: Open, tmp_path: Path) -> None:
    files = write_results(tmp_path, ["m" * 100, *(f"m{n}" for n in range(20))], ["demo_arithmetic", "d" * 100], n=2)
    out = build_report("demo", *files, tmp_path / "out", FACTS).parent
    for name in ("index.html", "compare.html", "samples.html"):
        page = visit(out / name, width=390)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    page = visit(out / "index.html")
    box = page.locator(".board-box")
    assert box.evaluate("box => box.scrollHeight > box.clientHeight")
    page.emulate_media(media="print")
    assert box.evaluate("box => getComputedStyle(box).overflowY") == "visible"


def test_a_click_on_a_heading_sorts_and_a_missing_score_stays_last(visit: Open, report: Path) -> None:
    page = visit(report / "index.html")
    assert models(page) == ["demo_large", "demo_base", "demo_tiny"]
    page.get_by_role("button", name="demo_translation").click()
    assert models(page) == ["demo_base", "demo_large", "demo_tiny"]
    reading = page.get_by_role("button", name="demo_reading_comprehension")  # which demo_tiny was not run on
    reading.click()
    reading.click()
    assert models(page) == ["demo_base", "demo_large", "demo_tiny"]
    assert page.locator(".board [aria-sort]").count() == 1


@pytest.mark.parametrize("name", ["index.html", "samples.html"])
def test_the_policy_stops_a_script_that_is_not_ours(visit: Open, report: Path, unwatched: list[str], name: str) -> None:
    page = visit(report / name)
    unwatched.append("Content Security Policy")
    add = "const own = document.createElement('script'); own.textContent = 'window.ran = 1'; document.body.append(own)"
    page.evaluate(add)
    assert page.evaluate("window.ran") is None


@pytest.mark.parametrize(("scheme", "paper"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(16, 19, 24)")])
def test_pages_follow_the_scheme_of_the_reader(visit: Open, report: Path, scheme: str, paper: str) -> None:
    page = visit(report / "index.html", color_scheme=scheme)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == paper


def columns(page: Any) -> list[str]:
    heads = page.locator(".board thead th[data-column]:not([hidden]) .name")
    return list(heads.evaluate_all("heads => heads.map(head => head.textContent)"))


def test_columns_are_hidden_and_loaded_when_wanted(
    visit: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "MOST", 2)
    page = visit(build_report("demo", *write_results(tmp_path, n=20), tmp_path / "out", FACTS).parent / "index.html")
    assert columns(page) == ["demo_arithmetic", "demo_capitals"]
    page.locator("#columns-shown").click()
    page.get_by_role("checkbox", name="demo_arithmetic").uncheck()
    page.get_by_role("checkbox", name="demo_reading_comprehension").check()
    page.locator("th[data-column=demo_reading_comprehension]").wait_for()
    assert columns(page) == ["demo_capitals", "demo_reading_comprehension"]
    page.keyboard.press("Escape")
    page.get_by_role("button", name="demo_reading_comprehension").click()
    assert models(page)[-1] == "demo_tiny"
    assert page.locator("tr", has_text="demo_tiny").locator("td.absent").inner_text() == "not run"
    assert page.locator("td.best a.score").last.get_attribute("href", timeout=1000).startswith("samples.html#dataset=")


def test_models_are_found_by_name_and_cells_are_shaded_by_one_colour(visit: Open, report: Path) -> None:
    page = visit(report / "index.html")
    page.locator("#find-row").fill("LARGE")
    assert page.locator(".board tbody tr:visible").count() == 1
    page.locator("#find-row").fill("")
    page.get_by_label("Shade by score").check()
    tints = page.locator("td[style]").evaluate_all("cells => cells.map(cell => getComputedStyle(cell).backgroundColor)")
    assert len(tints) == 3 * 2 + 11
    assert len(set(tints)) > 5


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, from npm."""
    return Path(need("axe")).read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", [*PAGES, "samples.html#dataset=demo_capitals&sample=capital%2F001%20Japan"])
def test_axe_finds_nothing_serious(visit: Open, report: Path, axe: str, name: str, scheme: str) -> None:
    file, _, fragment = name.partition("#")
    page = visit(report / file, f"#{fragment}" if fragment else "", bypass_csp=True, color_scheme=scheme)
    if fragment:
        page.locator(".choices").first.wait_for()
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(found => found.violations)")
    serious = [
        (each["id"], [node["target"] for node in each["nodes"]][:3])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []
