"""A store in a repository on the Hub can be read."""

import os
import shutil
from pathlib import Path

import pytest

import forked
from fake_hub import FakeHub
from shared_stores import person
from workflow import ROOT

READ = """
import sys
from shardmark.store.shared import SharedStore, StoreError
from shardmark.store.shared_entries import read_entry, read_header
store = SharedStore("hf://datasets/org/answers/shared")
store.check()
entries = store.entries(sys.argv[1])
for entry in entries:
    read_header(store.head(entry), entry, None)
    read_entry(store.content(entry), entry, None)
print(len(entries), "entries")
try:
    store.open_to_write()
except StoreError as error:
    print(error.problems[0].what)
"""


@pytest.mark.slow
def test_a_store_on_the_hub_is_read_and_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = person(tmp_path / "alice", "a", str(tmp_path / "pushed/shared"), monkeypatch)
    alice.infer()
    count = alice.push().counts["new"]
    (model,) = (path.name for path in (tmp_path / "pushed/shared/predictions").iterdir())
    shutil.copy(tmp_path / "pushed/shared/shardmark-store.json", tmp_path / "pushed/README.md")
    with FakeHub() as hub:
        hub.push("dataset", "org/answers", tmp_path / "pushed")
        own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT / "scripts")}
        environment = os.environ | own | {"NO_PROXY": "127.0.0.1,localhost"}
        done = forked.python("-c", READ, model, folder=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert f"{count} entries" in done.stdout
    assert "cannot write without replacing" in done.stdout
