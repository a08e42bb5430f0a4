"""What commands show and keep of models and data sets on the Hub (tests/fake_hub.py)."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiny_models
from fake_hub import FakeHub
from hub_site import ROOT, ROWS, Site, hub_site

pytestmark = pytest.mark.slow

OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A project with a model and a data set in the Hub."""
    with FakeHub() as hub:
        yield hub_site(hub, tmp_path)


def command(site: Site, script: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call a command for the run of config/test.yaml."""
    path = str(ROOT / f"scripts/{script}.py")
    return site.client(path, *options, "--configfile", "config/test.yaml", **environment)


def test_prompts_shows_the_pinned_rows_and_counts_with_a_tokenizer_that_is_here(site: Site) -> None:
    folder = tiny_models.random_model(site.folder / "tiny")
    site.push("model", "org/model", {file.name: file.read_bytes() for file in folder.iterdir()})
    before = command(site, "prompts")
    assert before.returncode == 0, before.stderr
    assert "-- d, sample 0" in before.stdout
    assert "prompt: 12 characters; about 3 tokens for m" in before.stdout
    assert not site.lock.exists(), "to look at prompts pins nothing"
    site.plan()
    site.stage()
    pinned = site.pins()["dataset"]["org/data@main"]
    site.push("dataset", "org/data", {"test.jsonl": [ROWS[0] | {"question": "newer?"}]})
    after = command(site, "prompts", **OFFLINE)
    assert after.returncode == 0, after.stderr
    assert f"rows of org/data@{pinned}" in after.stdout
    assert "newer?" not in after.stdout
    assert "about" not in after.stdout


def test_gc_needs_the_hub_only_for_what_is_not_pinned(site: Site) -> None:
    (site.project / "results").mkdir()
    refused = command(site, "garbage", **OFFLINE)
    assert refused.returncode == 1
    assert "config/test.yaml: this run cannot be planned" in refused.stderr
    assert "HF_HUB_OFFLINE is set" in refused.stderr
    site.plan()
    done = command(site, "garbage", **OFFLINE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-4:] == ["run", "0", "0", "bytes"]


def test_list_and_verify_know_what_is_on_the_hub(site: Site) -> None:
    assert "org/data test" in command(site, "list").stdout
    site.plan()
    row = next(line.split() for line in command(site, "list", **OFFLINE).stdout.splitlines() if "org/data" in line)
    assert row[-1] == str(len(ROWS))
    assert "all are intact" in command(site, "verify", **OFFLINE).stdout
