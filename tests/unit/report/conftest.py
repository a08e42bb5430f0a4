"""Tests of reports do without what draws charts, which takes seconds to start, unless they ask for `drawn`."""

from collections.abc import Iterator

import pytest

from shardmark.report import charts_page

REAL = {name: getattr(charts_page, name) for name in ("svg", "vega_script")}


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts_page, "svg", lambda chart: "<svg></svg>")
        patch.setattr(charts_page, "vega_script", lambda: "")
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The charts as they are."""
    for name, real in REAL.items():
        monkeypatch.setattr(charts_page, name, real)
