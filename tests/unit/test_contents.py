"""Files of the Hub hold what the lock knows of their commit, and each is hashed once until the machine starts again."""

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from projects import model_record, problems
from shardmark.config.dataset import Source
from shardmark.files import pretty_json, sealed
from shardmark.lock import contents
from shardmark.lock.contents import unwanted, with_contents, without
from shardmark.lock.lock import Lock
from shardmark.plan.hub_files import content_problems, unknown_contents
from shardmark.plan.origins import rows_pin
from shardmark.plan.plan import _drop_stale_staging
from shardmark.records.base import to_json
from shardmark.records.model import Commit, HubFile, HubRepository, ModelRecord, Staged
from shardmark.store import contents as stored
from shardmark.store.contents import ContentHashes, faults, git_name
from shardmark.store.hub_cache import hub_cache, hub_home, listed, named_by_content, snapshot
from shardmark.tasks import rows as rows_module
from shardmark.tasks.downloaded import downloaded
from shardmark.tasks.rows import RowsPin, hub_rows, kept_rows

COMMIT, OTHER = "0123456789abcdef0123456789abcdef01234567", "f" * 40
EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
"What `git hash-object /dev/null` says."


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache, with the files of one commit of org/m, as huggingface_hub puts them there."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    put("model", "org/m", COMMIT, {"config.json": b"{}", "model.safetensors": b"weights"})
    return snapshot("model", "org/m", COMMIT)


def put(kind: str, repository: str, commit: str, files: dict[str, bytes]) -> None:
    """Write files as links to blobs."""
    for name, content in files.items():
        path, told = snapshot(kind, repository, commit) / name, said(name, content)
        blob = path.parents[name.count("/") + 2] / "blobs" / str(told.sha256 or told.git)
        for file in (path, blob):
            file.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        path.symlink_to(os.path.relpath(blob, path.parent))


def said(name: str, content: bytes) -> HubFile:
    if name.endswith(".safetensors"):
        return HubFile(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    return HubFile(size=len(content), git=hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())


def record(commit: str = COMMIT) -> ModelRecord:
    source = HubRepository(path="org/m", identity=Commit(repository="org/m", commit=commit))
    return model_record(source=source, tokenizer=None)


FILES = {name: said(name, content) for name, content in {"config.json": b"{}", "model.safetensors": b"weights"}.items()}


def test_git_and_this_call_a_content_the_same(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert git_name(tmp_path / "empty") == EMPTY_BLOB


@pytest.mark.parametrize(
    ("change", "what", "missing"),
    [
        (lambda path: path.write_bytes(b"weightz"), "its content is not that of its commit", False),
        (lambda path: path.write_bytes(b"weights and more"), "has 16 bytes, but 7 in its commit", False),
        (lambda path: path.unlink(), "does not exist", True),
    ],
)
def test_what_is_missing_or_was_changed_is_named(cache: Path, change: object, what: str, missing: bool) -> None:
    assert faults(cache, FILES, ContentHashes(None)) == []
    change(cache / "model.safetensors")  # type: ignore[operator]
    (fault,) = faults(cache, FILES, ContentHashes(None))
    assert (fault.path, fault.is_missing) == (cache / "model.safetensors", missing)
    assert what in fault.what


def test_the_places_of_files_in_the_cache_say_what_they_hold_where_no_lock_does(cache: Path) -> None:
    found = named_by_content(cache)
    assert {name: (file.sha256, file.git) for name, file in found.items()} == {
        name: (file.sha256, file.git) for name, file in FILES.items()
    }
    (cache / "config.json").resolve().write_bytes(b"[]")
    (fault,) = faults(cache, found, ContentHashes(None))
    assert fault.path.name == "config.json"


def test_a_file_is_hashed_once_until_the_machine_starts_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(stored, "file_sha256", lambda path: read.append(path.name) or FILES[path.name].sha256)

    def look() -> None:
        hashes = ContentHashes(tmp_path)
        assert faults(cache, FILES, hashes) == []
        hashes.save()

    look()
    look()
    assert read == ["model.safetensors"]
    monkeypatch.setattr(stored, "boot_id", lambda: "another")
    look()
    assert len(read) == 2
    os.utime(cache / "model.safetensors", ns=(1, 1))
    look()
    assert len(read) == 3, "it was touched"


def test_two_processes_of_a_machine_keep_what_each_has_learnt(cache: Path, tmp_path: Path) -> None:
    one, other = ContentHashes(tmp_path), ContentHashes(tmp_path)
    for hashes, name in ((one, "config.json"), (other, "model.safetensors")):
        assert faults(cache, {name: FILES[name]}, hashes) == []
    one.save()
    other.save()
    (file,) = (tmp_path / "plans/contents").iterdir()
    assert all(name in file.read_text() for name in ("git:", "sha256:"))


def test_a_plan_reads_weights_only_where_the_lock_is_frozen(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardmark.plan.hub_files.SMALL", 5)
    (known,) = with_contents([record()], tmp_path, locked(tmp_path))
    (cache / "model.safetensors").write_bytes(b"weightz")
    assert content_problems([known], tmp_path, everything=False) == []
    (problem,) = content_problems([known], tmp_path, everything=True)
    assert problem.what.startswith("model.safetensors of org/m in the cache: its content is not that of its commit")
    assert str((cache / "model.safetensors").resolve()) in problem.fix


def locked(folder: Path, **options: bool) -> Lock:
    lock = Lock(folder / "benchmark.lock")
    lock._entries["hub", "model", "org/m@main"] = COMMIT
    told = {name: to_json(file) for name, file in FILES.items()}
    lock.learn_contents("model", "org/m", COMMIT, told)
    lock.save()
    return Lock(folder / "benchmark.lock", **options)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The Hub, and what it is asked for."""
    commits: list[str] = []

    def ask(kind: str, repository: str, commit: str) -> dict[str, HubFile]:
        commits.append(commit)
        return dict(FILES) | {"README.md": HubFile(size=1, git="a" * 40), "pytorch_model.bin": HubFile(size=7)}

    monkeypatch.setattr(contents, "ask_files", ask)
    return commits


def test_the_hub_is_asked_once_about_a_commit_and_the_lock_knows(tmp_path: Path, asked: list[str]) -> None:
    lock = Lock(tmp_path / "benchmark.lock")
    lock._entries["hub", "model", "org/m@main"] = COMMIT
    (known,) = with_contents([record()], tmp_path, lock)
    assert set(known.source.files) == {"config.json", "model.safetensors"}, "what is needed"
    lock.save()
    again = Lock(tmp_path / "benchmark.lock", frozen=True)
    assert with_contents([record()], tmp_path, again) == [known]
    assert asked == [COMMIT]
    assert set(again.contents("model", "org/m", COMMIT)) == {"config.json", "model.safetensors", "pytorch_model.bin"}


def test_a_lock_of_before_is_completed_and_when_frozen_stays_and_refuses_nothing(
    tmp_path: Path, asked: list[str]
) -> None:
    path = tmp_path / "benchmark.lock"
    path.write_text(json.dumps({"version": 2, "hub": {"model": {"org/m@main": COMMIT}}}))
    frozen = Lock(path, frozen=True)
    (unknown,) = with_contents([record()], tmp_path, frozen)
    assert (unknown.source.files or {}, frozen.refusals(), frozen.save(), asked) == ({}, [], [], [])
    lock = Lock(path)
    with_contents([record()], tmp_path, lock)
    assert (lock.changes(), lock.save()) == ([], []), "nothing has moved"
    assert "contents" in path.read_text()


def test_a_commit_that_nothing_is_pinned_to_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked(tmp_path)
    lock = Lock(tmp_path / "benchmark.lock", anew=True)
    monkeypatch.setattr("shardmark.lock.lock.ask_hub", lambda *_, **__: OTHER)
    assert lock.commit("model", "org/m", None, "m.yaml") == OTHER
    assert list(lock.all_contents()) == []


def test_the_list_of_a_program_that_downloaded_is_taken_as_the_hubs(cache: Path) -> None:
    tree = cache.parents[1] / "trees" / f"{COMMIT}.json"
    tree.parent.mkdir()
    tree.write_text(
        '{"format_version": 1, "files": {"a.safetensors": {"size": 3, "blob_id": "b", "lfs_sha256": "c"},'
        ' "b.json": {"size": 4, "blob_id": "d"}}}'
    )
    told = {"a.safetensors": HubFile(size=3, sha256="c"), "b.json": HubFile(size=4, git="d")}
    assert listed("model", "org/m", COMMIT) == told
    tree.write_text('{"files": [1]}')
    assert listed("model", "org/m", COMMIT) == {}


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["model.safetensors", "pytorch_model.bin", "config.json"], ["model.safetensors", "config.json"]),
        (["pytorch_model.bin", "config.json"], ["pytorch_model.bin", "config.json"]),
        (["consolidated.safetensors", "config.json"], ["consolidated.safetensors", "config.json"]),
        (["model.safetensors", "README.md", "onnx/model.onnx"], ["model.safetensors"]),
    ],
)
def test_the_same_weights_are_needed_once(names: list[str], kept: list[str]) -> None:
    files = dict.fromkeys(names, HubFile())
    assert list(without(files, unwanted(files, once=True))) == kept


def test_the_cache_is_where_the_hubs_client_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert hub_home() == tmp_path / "huggingface"
    assert hub_cache() == tmp_path / "huggingface/hub"
    monkeypatch.setenv("HF_HUB_CACHE", "/else/where")
    assert hub_cache() == Path("/else/where")


def test_what_no_lock_knows_is_said_to_be_compared_with_less(cache: Path, tmp_path: Path) -> None:
    (known,) = with_contents([record()], tmp_path, locked(tmp_path))
    assert unknown_contents([known]) == unknown_contents([record(OTHER)]) == [], "known, or not here yet"
    (remark,) = unknown_contents([record()])
    assert remark.what.endswith("the files of org/m: they are compared with their names in the cache only")
    for path in list(cache.iterdir()):  # as `cp -L` copies them
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    (remark,) = unknown_contents([record()])
    assert remark.what.endswith("they are compared with nothing")


def test_a_model_of_which_a_file_has_gone_is_staged_anew(cache: Path, tmp_path: Path) -> None:
    (known,) = with_contents([record()], tmp_path, locked(tmp_path))
    staged = tmp_path / "staged.json"
    staged.write_text(pretty_json(sealed(to_json(Staged(model=str(cache), tokenizer=str(cache))))))
    _drop_stale_staging(staged, known)
    assert staged.exists()
    (cache / "model.safetensors").resolve().unlink()
    _drop_stale_staging(staged, known)
    assert not staged.exists()


# Rows

SOURCE = Source(hub="org/d", split="test")


def test_rows_that_were_changed_in_the_cache_are_refused_by_name() -> None:
    kept = kept_rows(SOURCE, COMMIT)
    kept.parent.mkdir(parents=True)
    kept.write_text('{"question": "1 + 1?"}\n')
    learnt: list[str] = []
    assert list(hub_rows(SOURCE, COMMIT, "d.yaml", RowsPin(None, learnt.append))) == [{"question": "1 + 1?"}]
    assert learnt == [hashlib.sha256(kept.read_bytes()).hexdigest()]
    kept.write_text('{"question": "1 + 2?"}\n')
    (problem,) = problems(hub_rows, SOURCE, COMMIT, "d.yaml", RowsPin(learnt[0]))
    assert (problem.where, problem.key) == ("d.yaml", "source.hub")
    assert str(kept) in problem.what
    assert problem.fix.startswith(f"remove {kept}")


def test_rows_that_are_read_otherwise_than_they_were_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardmark.tasks.rows._fetch", lambda *_: [{"question": "?"}])
    (problem,) = problems(hub_rows, SOURCE, COMMIT, "d.yaml", RowsPin("0" * 64))
    assert "are not those that config/benchmark.lock has for this commit" in problem.what
    assert "remove 'test' of the commit from `contents`" in problem.fix


def test_rows_that_are_missing_are_told_with_the_size_that_the_lock_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock = locked(tmp_path)
    asked = ("org/d", COMMIT, "test")
    assert lock.rows_size(*asked) is None
    lock.learn_rows(*asked, files=2, bytes=3_000_000)
    lock.learn_rows(*asked, sha256="0" * 64)
    lock.learn_rows(*asked, sha256="1" * 64, files=9, bytes=9)
    lock.save()
    again = Lock(tmp_path / "benchmark.lock")
    assert (again.rows_sha256(*asked), again.rows_size(*asked)) == ("0" * 64, (2, 3_000_000))

    def gone(*_: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("shardmark.tasks.rows._fetch", gone)
    (problem,) = problems(hub_rows, SOURCE, COMMIT, "d.yaml", rows_pin(SOURCE, COMMIT, again))
    assert problem.what == "cannot read org/d: no network; to download: 2 files, 3.0 MB"


def test_rows_for_which_the_disk_has_no_room_are_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_000_000_000))
    rows_module._check_room(SOURCE, "d.yaml", 500_000_000)
    (problem,) = problems(rows_module._check_room, SOURCE, "d.yaml", 5_000_000_000)
    assert (problem.where, problem.key) == ("d.yaml", "source.hub")
    assert problem.what.startswith("rows of org/d: 5.0 GB must be downloaded to ")


def test_a_data_set_is_read_from_the_cache_only_as_a_whole() -> None:
    assert downloaded("org/d", COMMIT, is_known=False) is None
    put("dataset", "org/d", COMMIT, {"data/test-00000-of-00002.parquet": b"1"})
    with pytest.raises(FileNotFoundError, match=r"data/test-00001-of-00002.parquet; `hf download org/d --repo-type"):
        downloaded("org/d", COMMIT, is_known=False)
    folder = snapshot("dataset", "org/d", COMMIT)
    assert downloaded("org/d", COMMIT, is_known=True) == folder, "what is read is then compared"
    put("dataset", "org/d", COMMIT, {"data/test-00001-of-00002.parquet": b"2"})
    assert downloaded("org/d", COMMIT, is_known=False) == folder
    tree = folder.parents[1] / "trees" / f"{COMMIT}.json"
    tree.parent.mkdir()
    tree.write_text('{"files": {"README.md": {"size": 1, "blob_id": "a"}, "LICENSE": {"size": 1, "blob_id": "b"}}}')
    with pytest.raises(FileNotFoundError, match=r"are in the cache: README.md;"):
        downloaded("org/d", COMMIT, is_known=False)
