"""A test without what it needs is skipped with a reason, or fails where SHARDMARK_REQUIRE names it."""

import tomllib
from pathlib import Path

import pytest

import requirements_check

pytest_plugins = "pytester"

TESTS = Path(__file__).parents[1]

MARKED = """
    import pytest

    @pytest.mark.browser
    def test_marked():
        pass
"""
CALLED = """
    def test_called(need):
        assert need("chromium").endswith("chromium")
"""


@pytest.fixture
def machine(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with this one's conftest.py, on a machine with no program on its PATH."""
    programs = pytester.mkdir("programs")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they would take a second for each run
    monkeypatch.delenv("SHARDMARK_REQUIRE", raising=False)
    monkeypatch.delenv("SHARDMARK_DATA_ROOT", raising=False)
    monkeypatch.syspath_prepend(TESTS)
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    return pytester


def install(machine: pytest.Pytester, name: str, script: str = "exit 0") -> Path:
    program = machine.path / "programs" / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("test", [MARKED, CALLED], ids=["mark", "call"])
def test_missing_is_skipped_and_says_what_to_install(machine: pytest.Pytester, test: str) -> None:
    machine.makepyfile(test)
    result = machine.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines("*needs chromium: no chromium or google-chrome: apt-get install chromium")


@pytest.mark.parametrize(("test", "outcome"), [(MARKED, {"errors": 1}), (CALLED, {"failed": 1})], ids=["mark", "call"])
def test_missing_fails_where_required(
    machine: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str, outcome: dict[str, int]
) -> None:
    monkeypatch.setenv("SHARDMARK_REQUIRE", "bwrap, chromium")
    machine.makepyfile(test)
    result = machine.runpytest_inprocess()
    result.assert_outcomes(**outcome)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines("*apt-get install chromium (SHARDMARK_REQUIRE says it must be here)")


def test_missing_is_skipped_where_only_others_are_required(
    machine: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDMARK_REQUIRE", "bwrap")
    machine.makepyfile(MARKED)
    machine.runpytest_inprocess().assert_outcomes(skipped=1)


def test_a_whole_module_can_be_skipped(machine: pytest.Pytester) -> None:
    machine.makepyfile("from requirements_check import need\nneed('chromium')\ndef test_one(): pass")
    machine.runpytest_inprocess().assert_outcomes(skipped=1)


@pytest.mark.parametrize("test", [MARKED, CALLED], ids=["mark", "call"])
@pytest.mark.parametrize("required", ["", "chromium"])
def test_present_runs(machine: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str, required: str) -> None:
    monkeypatch.setenv("SHARDMARK_REQUIRE", required)
    install(machine, "chromium")
    machine.makepyfile(test)
    machine.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_misspelt_requirement_stops_the_run(machine: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDMARK_REQUIRE", "chromium,chromuim")
    machine.makepyfile(MARKED)
    result = machine.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*SHARDMARK_REQUIRE: unknown chromuim; known are axe, bitsandbytes, bwrap, chromium, *")


def test_an_unknown_need_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown; known are axe, bitsandbytes, bwrap, chromium"):
        requirements_check.need("browser")


def test_data_is_the_folder_that_the_variable_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SHARDMARK_REQUIRE", raising=False)
    monkeypatch.setenv("SHARDMARK_DATA_ROOT", str(tmp_path))
    assert requirements_check.need("data") == str(tmp_path)

    monkeypatch.setenv("SHARDMARK_DATA_ROOT", str(tmp_path / "gone"))
    with pytest.raises(pytest.skip.Exception, match="gone is not a folder"):
        requirements_check.need("data")

    monkeypatch.delenv("SHARDMARK_DATA_ROOT")
    with pytest.raises(pytest.skip.Exception, match="set SHARDMARK_DATA_ROOT"):
        requirements_check.need("data")


def test_a_bwrap_that_cannot_make_a_sandbox_counts_as_missing(
    machine: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(machine, "bwrap", "echo 'no permission to create a namespace' >&2; exit 1")
    with pytest.raises(pytest.skip.Exception, match="no permission to create a namespace"):
        requirements_check.need("bwrap")

    install(machine, "bwrap")
    assert requirements_check.need("bwrap").endswith("programs/bwrap")


def test_every_mark_is_declared() -> None:
    settings = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())
    declared = {line.split(":")[0] for line in settings["tool"]["pytest"]["ini_options"]["markers"]}
    assert set(requirements_check.MARKS) <= declared
    assert set(requirements_check.MARKS.values()) <= set(requirements_check.FINDERS)
