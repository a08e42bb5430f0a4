"""Tests of reports do without what draws charts, which takes seconds to start, unless they ask for `drawn`."""

from collections.abc import Iterator

import pytest

from shardmark.report import charts_page, vega

REAL = [(charts_page, "svg", charts_page.svg), (vega, "vega_script", vega.vega_script)]


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts_page, "svg", lambda chart: "<svg></svg>")
        patch.setattr(vega, "vega_script", lambda: "")
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The charts as they are."""
    for module, name, real in REAL:
        monkeypatch.setattr(module, name, real)
