"""The report in a real browser, from the file system: it renders, sorts, filters and asks the network for nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser.chromium import Browser, chromium
from requirements_check import need
from shardmark.report import build_report
from unit.report.fake_results import FACTS, write_results

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
SAMPLES = "samples/demo_tiny/demo_arithmetic/index.html"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    return build_report("demo", *write_results(root), root / "out", FACTS).parent


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(need("chromium"), tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(params=["index.html", SAMPLES, "samples/demo_base/demo_capitals/page-2.html"])
def page(request: pytest.FixtureRequest, report: Path) -> Path:
    return report / str(request.param)


def models(browser: Browser) -> list[str]:
    rows = "[...document.querySelectorAll('.board tbody th')].map(cell => cell.textContent)"
    return list(browser.evaluate(rows))


def visible_samples(browser: Browser) -> int:
    return int(browser.evaluate("[...document.querySelectorAll('.sample')].filter(e => e.offsetHeight).length"))


def test_a_page_asks_for_nothing_but_itself_and_reports_no_error(browser: Browser, page: Path) -> None:
    browser.open(page)
    urls = {event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")}
    assert {url for url in urls if not url.startswith("data:")} == {page.as_uri()}
    assert browser.seen("Log.entryAdded") == []
    assert browser.seen("Runtime.consoleAPICalled") == []
    assert browser.seen("Runtime.exceptionThrown") == []


@pytest.mark.parametrize("width", [360, 420, 768, 1400])
def test_a_page_never_scrolls_sideways_as_a_whole(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_the_leaderboard_and_the_charts_are_drawn(browser: Browser, report: Path) -> None:
    browser.open(report / "index.html")
    assert models(browser) == ["demo_large", "demo_base", "demo_tiny"]
    sizes = browser.evaluate("[...document.querySelectorAll('svg')].map(e => e.getBoundingClientRect().height)")
    assert len(sizes) == 1 + 1 + 4
    assert min(sizes) > 80


def test_a_click_on_a_heading_sorts_and_a_missing_score_stays_last(browser: Browser, report: Path) -> None:
    browser.open(report / "index.html")
    click = "document.querySelectorAll('.board thead button')[{}].click()"
    browser.evaluate(click.format(5))  # demo_translation
    assert models(browser) == ["demo_base", "demo_large", "demo_tiny"]
    browser.evaluate(click.format(6))  # demo_reading_comprehension, which demo_tiny was not run on
    browser.evaluate(click.format(6))
    assert models(browser) == ["demo_base", "demo_large", "demo_tiny"]
    assert browser.evaluate("document.querySelectorAll('.board [aria-sort]').length") == 1


def test_the_filter_shows_only_wrong_samples_without_any_script(browser: Browser, report: Path) -> None:
    browser.open(report / SAMPLES)
    assert visible_samples(browser) == 100
    wrong = browser.evaluate("document.querySelectorAll('.sample.wrong').length")
    browser.evaluate("document.querySelector('label[for=show-wrong]').click()")
    assert 0 < visible_samples(browser) == wrong < 100
    assert browser.evaluate("document.scripts.length") == 0


def test_the_policy_stops_a_script_that_is_not_ours(browser: Browser, report: Path) -> None:
    browser.open(report / "index.html")
    add = "const own = document.createElement('script'); own.textContent = 'window.ran = 1'; document.body.append(own)"
    browser.evaluate(add)
    assert browser.evaluate("window.ran") is None
    # The test above of a page without errors relies on such events.
    assert any("Content Security Policy" in event["entry"]["text"] for event in browser.seen("Log.entryAdded"))


def test_text_stays_legible_in_the_dark(browser: Browser, report: Path) -> None:
    for dark, paper in ((False, "rgb(255, 255, 255)"), (True, "rgb(16, 19, 24)")):
        browser.open(report / "index.html", dark=dark)
        assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == paper
        ink = browser.evaluate("getComputedStyle(document.querySelector('svg .role-axis-label text')).fill")
        assert ink == browser.evaluate("getComputedStyle(document.body).color")
