"""Which files a run needs, and that a plan elsewhere finds them all."""

import json
import multiprocessing
from pathlib import Path

import pytest

import projects
from projects import problems, write_rows, write_yaml
from shardmark import layout
from shardmark.config.merge import Merged
from shardmark.lock.lock import LOCK, Lock
from shardmark.processes.sockets import sole_job
from shardmark.records.archive import Manifest
from shardmark.records.prediction import Generated
from shardmark.store.hub_cache import snapshot
from shardmark.store.partials import append_partial
from shardmark.store.requests import read_requests
from shardmark.tools.packing import Unpacking, pack
from shared_stores import Person


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a model, a data set, and others that the run does not name."""
    root = tmp_path / "here"
    for name in ("tiny", "other"):
        projects.write_model(root, name)
    for name in ("sums", "unused"):
        projects.write_dataset(root, name, projects.many_rows())
    return at(root, monkeypatch)


def at(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be on a machine of its own."""
    root.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(root)
    monkeypatch.setenv("HF_HOME", str(root.parent / f"home of {root.name}"))
    return root


def run(**config: object) -> Merged:
    usual = {"run": "test", "models": ["tiny"], "datasets": ["sums"], "results": "results", "max_shard_size": 8}
    return Merged(usual | config, "config/config.yaml")


def names(manifest: Manifest, place: str = "project") -> list[str]:
    return [file.name for file in manifest.files if file.place == place]


def test_exactly_what_a_run_needs_is_packed(root: Path) -> None:
    write_yaml(root / "config/models/_base.yaml", {"max_out_len": 8})
    projects.change_yaml(root / "config/models/tiny.yaml", include="_base")
    _, manifest = pack(run(), root, Path("x.tar.zst"))
    assert names(manifest) == [
        "config/benchmark.lock",
        "config/datasets/sums.yaml",
        "config/models/_base.yaml",
        "config/models/tiny.yaml",
        "config/packed_test.yaml",
        "data/sums.jsonl",
        *(f"weights/tiny/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")),
    ]


def test_what_was_answered_goes_along_if_it_is_wanted(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_yaml(root / "config/models/tiny.yaml", {"num_gpus": 0, "path": "weights/tiny"})
    write_yaml(root / "config/datasets/sums.yaml", projects.GENERATE | {"source": {"file": "data/sums.jsonl"}})
    config = {"models": ["tiny"], "datasets": ["sums"]}
    Person(root, "a", str(tmp_path / "store"), monkeypatch).infer(**config)
    before = projects.plan(root, max_shard_size=8, **config)
    archive, manifest = pack(run(results=str(root / "results")), root, tmp_path / "x.tar.zst", predictions=True)
    assert len(names(manifest, "results")) == before.pairs[0].shards
    there = at(tmp_path / "there", monkeypatch)
    Unpacking(archive, there, there / "results", None, False).unpack(None)
    after = projects.plan(there, max_shard_size=8, **config)
    assert after.pairs[0].requests == 0
    assert [model.digest for model in after.models] == [model.digest for model in before.models]


def test_answers_of_unfinished_shards_go_along_too(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_yaml(root / "config/datasets/sums.yaml", projects.GENERATE | {"source": {"file": "data/sums.jsonl"}})
    before = projects.plan(root, **(config := {"models": ["tiny"], "datasets": ["sums"], "results": "out"}))
    [pair] = before.pairs
    shard = pair.missing[0]
    keys = {"model": pair.model.full_name, "dataset": "sums", "shard": shard.name}
    [first, *_] = read_requests(layout.REQUESTS.file(before.results, dataset="sums", shard=shard.name))
    answer = Generated(id=first, text="2", tokens=1, end="stop", cut=0)
    append_partial(layout.PREDICTIONS.file(before.results, **keys), [answer])
    archive, _ = pack(run(**config), root, tmp_path / "x.tar.zst", predictions=True)
    there = at(tmp_path / "there", monkeypatch)
    Unpacking(archive, there, None, None, False).unpack(None)
    after = projects.plan(there, **config)
    assert after.pairs[0].requests == pair.requests - 1


def test_one_process_writes_an_archive_at_a_time(root: Path) -> None:
    out = root / "x.tar.zst"
    other = multiprocessing.get_context("fork").Process(target=pack, args=[run(), root, out])
    with sole_job(out):
        other.start()
        other.join(1)
        assert not out.exists()
    other.join(30)
    assert out.exists()


def test_places_of_this_machine_are_not_packed(root: Path, tmp_path: Path) -> None:
    own = {"results": str(tmp_path / "out"), "vllm_python": "/opt/bin/python", "store": str(tmp_path), "limit": 3}
    _, manifest = pack(run(**own), root, Path("x.tar.zst"))
    assert manifest.config.keys() == run(limit=3).config.keys() - {"results"}


def test_a_name_that_no_archive_may_have_is_refused_when_it_is_packed(root: Path) -> None:
    write_rows(root / "data/a\\b.jsonl", projects.many_rows())
    write_yaml(root / "config/datasets/sums.yaml", projects.GENERATE | {"source": {"file": "data/a\\b.jsonl"}})
    [problem] = problems(pack, run(), root, Path("x.tar.zst"))
    assert "could not be unpacked: 'data/a\\\\b.jsonl'" in problem.what
    assert not list(root.glob("*x.tar*"))


def test_rows_elsewhere_keep_their_path_below_a_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "data/sums.jsonl", projects.many_rows())
    source = {"hub": "org/sums", "local": "sums.jsonl"}
    write_yaml(root / "config/datasets/sums.yaml", projects.GENERATE | {"source": source})
    archive, manifest = pack(run(data_root=str(tmp_path / "data")), root, tmp_path / "x.tar.zst")
    (name,) = names(manifest, "outside")
    there = at(tmp_path / "there", monkeypatch)
    Unpacking(archive, there, there / "results", there / "brought", False).unpack(None)
    assert (there / "brought" / name).read_bytes() == (tmp_path / "data/sums.jsonl").read_bytes()


def test_what_could_not_be_unpacked_is_not_packed(root: Path) -> None:
    rows = write_rows(root / "tests/sums.jsonl", projects.many_rows())
    write_yaml(root / "config/datasets/sums.yaml", projects.GENERATE | {"source": {"file": str(rows)}})
    (problem,) = problems(pack, run(), root, Path("x.tar.zst"))
    assert problem.where == "tests/sums.jsonl"
    assert "cannot be unpacked to its place" in problem.what


def test_what_is_missing_is_named_before_anything_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "c" * 40
    write_yaml(root / "config/models/tiny.yaml", {"num_gpus": 0, "path": "org/m", "revision": commit})
    (root / LOCK).write_text(json.dumps({"version": 2, "hub": {"model": {f"org/m@{commit}": commit}}}))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = problems(pack, run(), root, Path("x.tar.zst"))
    assert [problem.what for problem in found] == ["org/m of model tiny is not in the Hub's cache"]
    assert not list(root.glob("*.tar.zst*"))
    assert snapshot("model", "org/m", commit).name == commit


def test_locks_are_joined_unless_they_disagree(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    text = '{"version": 2, "hub": {"model": {%s}}}'
    mine.write_text(text % '"a/a@main": "1", "c/c@main": "3"')
    theirs.write_text(text % '"a/a@main": "1", "b/b@main": "2"')
    lock = Lock(mine)
    assert lock.adopt(theirs) == []
    lock.save()
    assert {key[2]: value for key, value in Lock(mine)._entries.items()} == {
        "a/a@main": "1",
        "b/b@main": "2",
        "c/c@main": "3",
    }
    theirs.write_text(text % '"a/a@main": "9"')
    assert Lock(mine).adopt(theirs) == ["hub.model.a/a@main"]
