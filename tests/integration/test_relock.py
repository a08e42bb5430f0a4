"""relock asks the Hub (tests/fake_hub.py) anew, shows what moved, and writes all of it or nothing."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_hub import SIGNATURE, FakeHub
from hub_site import ROOT, ROWS, Site, hub_site, weights, with_own_rows
from projects import change_yaml

pytestmark = pytest.mark.slow

NEWER = [ROWS[0] | {"question": "2 + 2?"}]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A project with model `m` (org/model) in the Hub and data set `d` in a file."""
    with FakeHub() as hub:
        yield with_own_rows(hub_site(hub, tmp_path))


def entries(site: Site) -> dict[str, Any]:
    return dict(json.loads(site.lock.read_text()))


def short(commit: str) -> str:
    return commit[:12]


def test_what_moved_on_the_hub_is_shown_checked_and_written(site: Site) -> None:
    site.model("m", path=str(ROOT / "demo/models/small"), max_out_len=16)
    site.dataset("d", {"hub": "org/data"})
    site.plan()
    old, before = site.pins()["dataset"]["org/data@main"], site.lock.read_bytes()
    new = site.push("dataset", "org/data", {"test.jsonl": NEWER})

    site.plan()
    assert site.lock.read_bytes() == before, "planning stays with the lock"
    checked = site.relock("--check")
    assert checked.returncode == 1, checked.stderr
    assert checked.stdout.splitlines() == [
        f"lock: data set d: commit {short(old)} -> {short(new)}, rows 3 -> absent",
        f"lock: data set on the Hub org/data@main: {short(old)} -> {short(new)}",
        "config/benchmark.lock: 2 entries would change; nothing was written",
    ]
    assert site.lock.read_bytes() == before
    done = site.relock()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"lock: data set d: commit {short(old)} -> {short(new)}, 3 -> 1 rows"
    assert site.pins()["dataset"] == {"org/data@main": new}
    assert entries(site)["datasets"]["d"]["hub"]["rows"] == 1
    again = site.relock("--check")
    assert (again.returncode, again.stdout) == (0, "config/benchmark.lock: current\n")
    site.configure(["m"], ["d"], frozen=True)
    assert site.prompts(site.plan()["datasets"][0]) == {"Q: 2 + 2?\nA:"}


def test_a_frozen_plan_asks_the_hub_for_nothing(site: Site) -> None:
    site.plan()
    site.configure(["m"], ["d"], frozen=True)
    site.model("new", path="org/model", revision="v1")
    asked = len(site.hub.requests)
    site.plan()
    site.configure(["m", "new"], ["d"], frozen=True)
    message = site.refused()
    assert "config/benchmark.lock: hub.model.org/model@v1: is not pinned yet" in message
    assert "config/models/new.yaml names it" in message
    assert len(site.hub.requests) == asked


def test_what_jobs_need_is_known_from_the_hub_and_then_from_the_lock(site: Site) -> None:
    header = json.dumps({"w": {"dtype": "BF16", "shape": [3, 5], "data_offsets": [0, 30]}}).encode()
    site.push("model", "org/model", weights(len(header).to_bytes(8, "little") + header + bytes(30)))
    assert site.plan()["models"][0]["source"]["parameters"] == 15
    assert entries(site)["models"]["m"]["hub"]["parameters"] == 15
    shutil.rmtree(site.project / "results")
    site.configure(["m"], ["d"], frozen=True)
    assert site.plan()["models"][0]["source"]["parameters"] == 15


def test_commits_stay_and_only_what_the_configuration_names_is_asked_for(site: Site) -> None:
    commit = site.push("model", "org/model", weights(b"one"), ref="v1")
    site.push("model", "org/other", weights())
    for name, keys in {"m": {"path": "org/model", "revision": "v1"}, "o": {"path": "org/other"}}.items():
        site.model(name, **keys)
    site.model("c", path="org/model", revision=commit)
    site.configure(["m", "o", "c"], ["d"])
    site.plan()
    pins = site.pins()["model"]
    new = site.push("model", "org/model", weights(b"two"), ref="v1")
    site.push("model", "org/other", weights(b"other"))
    site.configure(["m", "c"], ["d"])
    done = site.relock()
    assert done.returncode == 0, done.stderr
    assert site.pins()["model"] == pins | {"org/model@v1": new}
    assert pins[f"org/model@{commit}"] == commit


def test_without_the_hub_nothing_is_relocked_though_the_cache_knows_a_commit(site: Site) -> None:
    site.plan()
    before = site.lock.read_bytes()
    offline = site.relock(HF_HUB_OFFLINE="1")
    site.hub.down = True
    down = site.relock()
    for done, what in ((offline, "HF_HUB_OFFLINE is set"), (down, "cannot reach the Hub for org/model")):
        assert done.returncode == 1
        assert done.stderr.startswith(f"config/models/m.yaml: path: {what}")
        assert "cache" not in done.stderr
    assert site.lock.read_bytes() == before


def test_all_problems_are_told_and_nothing_is_written(site: Site) -> None:
    site.plan()
    before = site.lock.read_bytes()
    site.push("model", "org/model", weights(b"better"))
    site.model("n", path="org/nothing")
    site.dataset("e", {"file": "gone.jsonl"})
    site.configure(["m", "n"], ["d", "e"])
    done = site.relock()
    assert done.returncode == 1
    assert "config/models/n.yaml: path: the Hub has no model 'org/nothing'" in done.stderr
    assert "config/datasets/e.yaml: source.file: no file gone.jsonl" in done.stderr
    assert "Traceback" not in done.stderr
    assert site.lock.read_bytes() == before


def test_a_template_with_a_mistake_is_no_reason_to_keep_an_old_commit(site: Site) -> None:
    site.plan()
    new = site.push("model", "org/model", weights(b"better"))
    change_yaml(site.project / "config/datasets/d.yaml", prompt="{{ questoin }}")
    done = site.relock()
    assert done.returncode == 0, done.stderr
    assert site.pins()["model"] == {"org/model@main": new}


def test_prune_drops_what_no_file_can_mean_and_keeps_what_this_run_does_not_name(site: Site) -> None:
    site.model("other", path="org/model")
    site.model("gone", path="org/model", revision="v1")
    site.dataset("gone", {"file": str(site.folder / "rows.jsonl")})
    site.push("model", "org/model", weights(b"one"), ref="v1")
    site.push("model", "org/one-off", weights())
    site.configure(["m", "other", "gone"], ["d", "gone"])
    site.plan()
    site.configure([], ["d"], hf_path="org/one-off", num_gpus=0)
    site.plan()
    for name in ("models", "datasets"):
        (site.project / f"config/{name}/gone.yaml").unlink()
    site.configure(["m"], ["d"])
    before = site.lock.read_bytes()
    kept = site.relock()
    assert (kept.stdout, site.lock.read_bytes()) == ("config/benchmark.lock: current\n", before)
    done = site.relock("--prune")
    assert [line.partition(": dropped")[0] for line in done.stdout.splitlines()] == [
        "lock: data set gone",
        "lock: model on the Hub org/model@v1",
        "lock: model on the Hub org/one-off@main",
        "lock: model gone",
        "config/benchmark.lock: 4 entries changed; commit it",
    ]
    lock = entries(site)
    assert list(lock["hub"]["model"]) == ["org/model@main"]
    assert (list(lock["models"]), list(lock["datasets"])) == (["m", "other"], ["d"])
    one_off = site.relock("--prune", "--config", "hf_path=org/one-off")
    assert "org/one-off@main: new: " in one_off.stdout, "what this run names stays"


def test_no_token_and_no_signed_address_is_told(site: Site) -> None:
    token = "hf_" + "t0ken" * 6
    site.model("m", path=str(ROOT / "demo/models/small"), max_out_len=16)
    site.push("dataset", "org/closed", {"test.parquet": ROWS})
    site.hub.gate("dataset", "org/closed", token)
    site.dataset("d", {"hub": "org/closed"})
    done = site.relock("--log", "results/relock.log", HF_TOKEN=token)
    assert done.returncode == 0, done.stderr
    assert any(request.host.startswith("localhost") for request in site.hub.requests), "a big file was downloaded"
    log = (site.project / "results/relock.log").read_text()
    assert "data set d: new: " in log
    for text in (done.stdout, done.stderr, log, site.lock.read_text()):
        assert token not in text
        assert SIGNATURE not in text
