"""A browser for all tests of this folder, and pages that are watched: an error, or a request to elsewhere, fails."""

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from requirements_check import need
from shardmark.report.build import build_report
from shardmark.report.changes import Previous
from shardmark.report.results import read_results
from unit.report.fake_results import FACTS, write_results

Open = Callable[..., Any]
"""Opens a page: a file of a report or an address; the keywords are `fragment`, and those of Playwright's contexts."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for each file: as long as Playwright is open, asyncio.run fails in other tests of the process."""
    executable = need("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def unwatched() -> list[str]:
    """Parts of messages that a test expects; it adds them."""
    return []


@pytest.fixture
def visit(browser: Any, unwatched: list[str]) -> Iterator[Open]:
    """Open pages; at the end of the test, none of them may have had an error or asked for anything elsewhere."""
    errors: list[str] = []
    contexts = []

    def open_page(place: Path | str, fragment: str = "", width: int = 1400, height: int = 900, **more: Any) -> Any:
        address = place.resolve().as_uri() if isinstance(place, Path) else place
        home = address.rpartition("/")[0]
        context = browser.new_context(viewport={"width": width, "height": height}, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith((home, "data:", "blob:")) or errors.append(asked.url))
        page.goto(address + fragment)
        if page.locator(".explorer").count():
            page.locator("body[data-ready]").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [error for error in errors if not any(part in error for part in unwatched)] == []


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of made-up results, after one of fewer samples."""
    root = tmp_path_factory.mktemp("report")
    previous = Previous("demo@0123456789abcdef", read_results(*write_results(root / "previous", n=40)))
    return build_report("demo", *write_results(root), root / "out", FACTS, previous=previous).parent


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *parts: Any) -> None:
        pass


@pytest.fixture(scope="session")
def site(report: Path) -> Iterator[str]:
    """The address of the report on a web server of this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(report)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
