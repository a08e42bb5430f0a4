"""Two clones that share a store: what one has run, the other only scores."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from quick_engine import use_quick_engine
from shared_stores import s3_server
from workflow import SMALL_RUN, Project


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run that has finished."""
    project = Project.create(tmp_path_factory.mktemp("store") / "project", **SMALL_RUN)
    use_quick_engine(project)
    project.run()
    return project


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    if request.param == "folder":
        yield str(tmp_path / "store")
    else:
        with s3_server(monkeypatch) as address:
            yield address


@pytest.mark.slow
def test_what_one_clone_has_pushed_another_only_scores(finished: Project, tmp_path: Path, store: str) -> None:
    finished.configure(**SMALL_RUN | {"store": store})
    assert "4 shards added" in finished.run("--", "push")
    assert "0 shards added, 4 were already there" in finished.run("--", "push")
    fresh = Project.create(tmp_path / "fresh", **SMALL_RUN | {"store": store})
    use_quick_engine(fresh)
    assert "4 of 4" in fresh.run("--", "store-status")
    shown = fresh.run("-n")
    assert f"store {store}: 32 answers reused (32 by " in shown
    assert fresh.announced(shown) == {"score": 2, "report": 1}
    assert "0 requests in 0 shards remain to be inferred" in fresh.run("--", "pull")
    fresh.run()
    assert "Reused answers" in (fresh.results / "reports/test/provenance.html").read_text()
    assert "all are intact" in fresh.run("--", "verify")
    assert [sample["output"] for sample in fresh.samples().values()] == [
        sample["output"] for sample in finished.samples().values()
    ]


@pytest.mark.slow
def test_a_store_that_goes_away_during_a_run_costs_the_run_nothing(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    store, gone = tmp_path / "store", tmp_path / "gone"
    finished.configure(**SMALL_RUN | {"store": str(store), "datasets": SMALL_RUN["datasets"][:1]})
    assert "2 shards added" in finished.run("--", "push")
    fresh = Project.create(tmp_path / "fresh", **SMALL_RUN | {"store": str(store)})
    use_quick_engine(fresh)
    command = fresh.folder / "scripts/infer.py"
    goes = f"import os\nif os.path.isdir({str(store)!r}):\n    os.rename({str(store)!r}, {str(gone)!r})\n"
    command.write_text(f"{goes}    open({str(store)!r}, 'w').close()\n{command.read_text()}")
    shown = fresh.run()
    assert f"store {store}: 16 answers reused" in shown
    assert gone.is_dir()
    assert [sample["output"] for sample in fresh.samples().values()] == [
        sample["output"] for sample in finished.samples().values()
    ]
    refused = fresh.run("--", "push", succeeds=False)
    assert f"store: {store}: NotADirectoryError" in refused
    assert "Traceback" not in refused
    store.unlink()
    gone.rename(store)
    assert "2 shards added, 2 were already there" in fresh.run("--", "push")


@pytest.mark.slow
def test_a_run_without_a_store_says_so(finished: Project) -> None:
    finished.configure(**SMALL_RUN)
    shown = finished.run("--", "push", succeeds=False)
    assert "config/test.yaml: store: this run names no store" in shown
