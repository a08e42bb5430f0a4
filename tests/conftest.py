"""For all tests: what they need is looked for before they run (see requirements_check.py)."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certifi import where
from hypothesis import settings

import requirements_check

# A slow machine fails no property, and the same code meets the same examples, so that a failure belongs to the change
# that it appears with. `--hypothesis-profile=search` looks for new ones, and prints how to have them again.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, print_blob=True, max_examples=1000)
settings.load_profile("repeatable")

# No test cuts the power, and waiting for the disk took a fifth of the time of those that plan.
os.fsync = lambda fd: None


def pytest_configure() -> None:
    # A shell's background jobs ignore Ctrl-C, and so would the runs that tests interrupt: they inherit it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        requirements_check.required()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests have ten minutes, unless they say otherwise: on a busy machine one takes five times as long."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600))


def pytest_report_header() -> str:
    return f"{requirements_check.VARIABLE}: {','.join(sorted(requirements_check.required())) or '(nothing)'}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark, name in requirements_check.MARKS.items():
        if item.get_closest_marker(mark):
            requirements_check.need(name)


@pytest.fixture(scope="module")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One certificate of an authority in the place of all: clients that need none read them for 30 ms each."""
    file = tmp_path_factory.mktemp("certificates") / "one.pem"
    file.write_text("".join(Path(where()).read_text().partition("-----END CERTIFICATE-----")[:2]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(file))
        yield


@pytest.fixture
def need() -> Callable[[str], str]:
    """The function `need(name)` of requirements_check.py, for a test that learns late what it needs."""
    return requirements_check.need
