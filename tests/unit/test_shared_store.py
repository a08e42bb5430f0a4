"""Results folders that share a store: what one has answered, no other infers again, if it is whole and trusted."""

import errno
import hashlib
import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

import projects
from answered import made
from shardmark.config import RunConfig
from shardmark.config.merge import Merged
from shardmark.errors import UserError
from shardmark.files import digest, json_line
from shardmark.store import shared
from shardmark.store.partials import read_partial, taken_in
from shardmark.store.predictions import read_predictions, write_predictions
from shardmark.store.shared import SharedStore, StoreError
from shardmark.store.shared_entries import KEY, KEY_FILE, entry_at, store_key
from shardmark.tools.sharing import status
from shared_stores import PACKAGES, Failing, Person, answer, person, s3_server


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "store")
    else:
        with s3_server(monkeypatch) as address:
            yield address


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody who has answered everything and shared it."""
    folder = tmp_path_factory.mktemp("answered")
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = person(folder / "alice", "a", str(folder / "store"), monkeypatch)
        found.infer()
        found.push()
        yield found


@pytest.fixture
def alice(answered: Person, folder: str, monkeypatch: pytest.MonkeyPatch) -> Person:
    """The same with a copy of the store."""
    shutil.copytree(answered.store, folder)
    return replace(answered, store=folder, monkeypatch=monkeypatch)


@pytest.fixture
def bob(alice: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    return person(tmp_path / "bob", "b", alice.store, monkeypatch)


def entries(store: str) -> list[Path]:
    return sorted(Path(store).glob("predictions/*/*/*.jsonl"))


def test_what_one_results_folder_has_answered_another_takes_over(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = (person(tmp_path / name, name[0], store, monkeypatch) for name in ("alice", "bob"))
    alice.infer()
    shards = len(alice.files())
    assert alice.push().counts == {"new": shards}
    assert alice.push().counts == {"there": shards}, "nothing is replaced"
    plan = bob.plan(store_trust="all")
    assert [len(pair.missing) for pair in plan.pairs] == [0]
    assert "64 answers reused (64 by" in plan.shared[0]
    assert bob.answers() == alice.answers()
    _, trailer = read_predictions(bob.files()[0])
    (taken,) = trailer.taken
    assert (taken.store, taken.packages, taken.hardware) == (store, PACKAGES, {"cpu": "a CPU"})
    assert (trailer.inferred, trailer.seconds) == (0, 0.0), "no measure of this machine"
    assert bob.plan(store_trust="all").shared == [], "nothing is fetched twice"


def test_answers_are_taken_whatever_the_number_of_shards(alice: Person, bob: Person) -> None:
    plan = projects.plan(bob.root, max_shard_size=64, store=alice.store, store_trust="all")
    assert [(pair.shards, pair.requests) for pair in plan.pairs] == [(1, 0)]
    assert bob.answers() == alice.answers()


def test_only_ones_own_answers_are_taken_unless_all_are_trusted(alice: Person, bob: Person) -> None:
    plan = bob.plan()
    assert plan.pairs[0].requests == 64
    assert "entries by others left out (store_trust: all would use them)" in plan.shared[0]
    second = person(alice.root.parent / "second", "a", alice.store, alice.monkeypatch)
    assert second.left() == (0, 0), "alice on another machine"


def test_what_came_from_others_is_not_pushed_as_ones_own(bob: Person) -> None:
    bob.plan(store_trust="all")
    assert set(bob.push(store_trust="all").counts) == {"taken"}


def forged(path: Path, **facts: Any) -> None:
    """Change what the first line of an entry says."""
    line, _, body = path.read_bytes().partition(b"\n")
    path.write_bytes(json_line(json.loads(line) | facts).encode() + body)


def rewritten(path: Path, tmp_path: Path, model: str | None = None, drop: bool = False) -> None:
    """Put other predictions behind a first line that hashes them, as somebody would who forges an entry."""
    line, _, _ = path.read_bytes().partition(b"\n")
    header = json.loads(line)
    ids = [json.loads(line)["id"] for line in path.read_bytes().splitlines()[1:-1]]
    made_up = tmp_path / f"predictions/m@{model or header['model']}/{header['dataset']}/{header['shard']}.jsonl"
    write_predictions(made_up, map(answer, ids[drop:]), made())
    body = made_up.read_bytes()
    header |= {"sha256": hashlib.sha256(body).hexdigest()}
    path.write_bytes(json_line(header).encode() + body)


def damaged(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(old, new))


TAMPERED = {
    "a changed answer": (
        lambda path, tmp: path.write_bytes(path.read_bytes().replace(b"made up", b"changed")),
        "match the hash",
    ),
    "cut off": (lambda path, tmp: path.write_bytes(path.read_bytes()[:-100]), "match the hash"),
    "empty": (lambda path, tmp: path.write_bytes(b""), "first line cannot be read"),
    "no JSON": (lambda path, tmp: path.write_bytes(b"\xff\xfe\n"), "first line cannot be read"),
    "another shard's": (lambda path, tmp: forged(path, shard="0" * 16), "it belongs to"),
    "an odd name": (lambda path, tmp: forged(path, by="\x1b[2Jme"), "invalid name"),
    "of the future": (lambda path, tmp: forged(path, store=2), "newer Shardmark"),
    "another model's": (lambda path, tmp: rewritten(path, tmp, model="0" * 16), "model with digest 0000"),
    "fewer requests": (lambda path, tmp: rewritten(path, tmp, drop=True), "requests are not those of shard"),
    "deep": (lambda path, tmp: path.write_bytes(b"[" * 100_000 + b"\n"), "first line cannot be read"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_an_entry_that_is_not_whole_is_refused_by_name_and_inferred(
    alice: Person, bob: Person, tmp_path: Path, how: str
) -> None:
    tamper, said = TAMPERED[how]
    path = entries(alice.store)[0]
    tamper(path, tmp_path)
    plan = bob.plan(store_trust="all")
    assert len(plan.pairs[0].missing) == 1
    (warning,) = plan.warnings
    assert (warning.where, warning.key) == ("store", str(path))
    assert said in warning.what
    assert not any(b"changed" in file.read_bytes() for file in bob.files())
    (found,) = status(Merged(bob.config(), "config/config.yaml"), bob.root, verify=True)
    assert [(problem.key, said in problem.what) for problem in found.refused] == [(str(path), True)]


def test_a_damaged_entry_is_made_up_for_by_anothers(alice: Person, bob: Person, tmp_path: Path) -> None:
    bob.infer()
    assert set(bob.push().counts) == {"new"}
    for path in entries(alice.store):
        if path.name.endswith(f".{alice_key(alice)}.jsonl"):
            path.write_bytes(b"")
    carol = person(tmp_path / "carol", "c", alice.store, alice.monkeypatch)
    assert carol.left(store_trust="all") == (0, 0)
    assert carol.answers() == alice.answers()


def alice_key(alice: Person) -> str:
    alice.be()
    key = store_key()
    assert key is not None
    return key.name


def test_an_entry_in_ones_own_name_that_one_did_not_sign_is_refused(alice: Person, tmp_path: Path) -> None:
    second = person(tmp_path / "second", "a", alice.store, alice.monkeypatch)
    rewritten(entries(alice.store)[0], tmp_path)
    plan = second.plan()
    assert len(plan.pairs[0].missing) == 1
    assert "was not signed with it" in plan.warnings[0].what


def test_what_a_job_adds_to_answers_of_others_says_whose_they_are(alice: Person, tmp_path: Path) -> None:
    rows = projects.many_rows()
    rows[3]["question"] = "What is 9 + 9?"
    bob = person(tmp_path / "bob", "b", alice.store, alice.monkeypatch, rows)
    plan = bob.plan(store_trust="all")
    (shard,) = plan.pairs[0].missing
    assert shard.left == 1
    (partial,) = bob.root.glob("results/predictions/*/*/*.partial")
    ids = {found.id for found in read_partial(partial)}
    assert len(ids) == shard.requests - 1
    (taken,) = taken_in([partial], ids)
    assert taken.packages == PACKAGES


def test_a_store_that_is_not_there_is_said_and_everything_is_inferred(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = person(tmp_path / "bob", "b", folder, monkeypatch)
    plan = bob.plan()
    assert plan.pairs[0].requests == 64
    (warning,) = plan.warnings
    assert (warning.where, warning.key) == ("store", folder)
    assert "contains no store yet" in warning.what


def test_a_store_that_does_not_answer_is_given_up(bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "PATIENCE", 0.2)
    monkeypatch.setattr(SharedStore, "entries", lambda self, model: self._waited(time.sleep, 30))
    began = time.monotonic()
    plan = bob.plan(store_trust="all")
    assert time.monotonic() - began < 20
    assert plan.pairs[0].requests == 64
    assert "has not answered" in plan.warnings[0].what


@pytest.mark.slow
def test_an_s3_server_that_is_down_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(shared, "PATIENCE", 3.0)
    bob = person(tmp_path / "bob", "b", "s3://answers/shared", monkeypatch)
    plan = bob.plan()
    assert plan.pairs[0].requests == 64
    assert plan.warnings[0].key == "s3://answers/shared"
    with pytest.raises(StoreError):
        bob.push()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["down", "slow"])
def test_a_server_that_fails_while_it_is_read_leaves_what_was_read_and_the_rest_is_inferred(
    fault: str, answered: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers: list[Failing] = []
    with s3_server(monkeypatch, servers) as address:
        alice = replace(answered, store=address, monkeypatch=monkeypatch)
        alice.push()
        monkeypatch.setattr(shared, "PATIENCE", 2.0)
        monkeypatch.setattr(shared, "AT_ONCE", 1)
        bob = person(tmp_path / "bob", "b", address, monkeypatch)
        servers[0].fail("GET", 3, fault)
        plan = bob.plan(store_trust="all")
        (warning,) = plan.warnings
        assert (warning.where, warning.key) == ("store", address)
        assert "this run does not use it any more" in warning.fix
        taken = bob.answers()
        assert 0 < len(taken) < 64
        assert taken.items() <= alice.answers().items()
        assert plan.pairs[0].requests == 64 - len(taken)
        bob.infer(store_trust="all")  # as jobs do, which know of no store
        assert len(bob.answers()) == 64
        servers[0].fault = ""
        assert bob.left(store_trust="all") == (0, 0)


def test_a_folder_that_goes_away_while_it_is_read_is_said_once(bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = SharedStore.content, iter(range(100))

    def content(store: SharedStore, entry: Any) -> bytes:
        if next(calls) == 3:
            Path(bob.store).rename(f"{bob.store}.unmounted")
        return real(store, entry)

    monkeypatch.setattr(shared, "AT_ONCE", 1)
    monkeypatch.setattr(SharedStore, "content", content)
    plan = bob.plan(store_trust="all")
    (warning,) = plan.warnings
    assert "contains no store yet" in warning.what
    assert 0 < plan.pairs[0].requests == 64 - len(bob.answers()) < 64
    bob.infer(store_trust="all")
    assert len(bob.answers()) == 64


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["down", "full"])
def test_a_server_that_fails_while_it_is_written_keeps_what_is_there_and_the_next_push_goes_on(
    fault: str, answered: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers: list[Failing] = []
    with s3_server(monkeypatch, servers) as address:
        alice = replace(answered, store=address, monkeypatch=monkeypatch)
        before = alice.answers()
        servers[0].fail("PUT", 3, fault)
        monkeypatch.setattr(shared, "AT_ONCE", 1)
        with pytest.raises(StoreError, match=f"the server is {fault}") as caught:
            alice.push()
        assert "3 shards have been added completely" in str(caught.value)
        assert alice.answers() == before
        servers[0].fault = ""
        counts = alice.push().counts
        assert (counts["there"], counts["new"]) == (3, len(alice.files()) - 3)
        assert person(tmp_path / "bob", "b", address, monkeypatch).left(store_trust="all") == (0, 0)


def test_a_full_disk_leaves_the_store_whole_and_is_said(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = person(tmp_path / "alice", "a", folder, monkeypatch)
    alice.infer()
    real, calls = os.fsync, iter(range(100))

    def full(handle: int) -> None:
        if next(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        alice.push()
    assert [path for path in Path(folder).rglob("*") if path.name.startswith(".")] == []
    monkeypatch.setattr(os, "fsync", real)
    assert alice.push().counts["new"] >= 1
    bob = person(tmp_path / "bob", "b", folder, monkeypatch)
    assert bob.left(store_trust="all") == (0, 0)


@pytest.mark.slow
def test_two_pushes_at_once_share_everything_once(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = [person(tmp_path / name, "a", store, monkeypatch) for name in ("one", "two")]
    for each in people:
        each.infer()
    pushed: list[Any] = []
    threads = [threading.Thread(target=lambda each=each: pushed.append(each.push().counts)) for each in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shards = len(people[0].files())
    assert sum(each["new"] for each in pushed) == shards
    assert sum(each["there"] for each in pushed) == shards
    third = person(tmp_path / "three", "a", store, monkeypatch)
    assert third.left() == (0, 0)


@pytest.mark.parametrize("address", ["hf://datasets/org/answers", "gs://bucket/x"])
def test_a_place_that_cannot_refuse_to_replace_is_read_only(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedStore, "_opened", lambda self: (fsspec.filesystem("memory"), "/x"))
    with pytest.raises(StoreError, match="can only be read"):
        SharedStore(address).open_to_write()


def test_a_server_that_replaces_objects_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(monkeypatch) as address:
        store = SharedStore(address)
        real = store._fs.pipe_file
        monkeypatch.setattr(store._fs, "pipe_file", lambda path, content, mode: real(path, content), raising=False)
        with pytest.raises(StoreError, match="it replaces objects"):
            store.open_to_write()


def test_a_file_system_without_hard_links_is_read_only(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError, match="no hard links"):
        SharedStore(folder).open_to_write()


def test_a_folder_of_a_group_stays_open_to_it_whatever_the_umask(folder: str) -> None:
    root = Path(folder)
    root.mkdir()
    root.chmod(0o770)
    before = os.umask(0o077)
    try:
        assert SharedStore(folder).put("predictions/a/b/x.jsonl", b"x")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((root / name).stat().st_mode) for name in ("predictions", "predictions/a/b/x.jsonl")]
    assert modes == [0o770, 0o660]


def test_an_empty_key_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / KEY_FILE).parent.mkdir()
    (tmp_path / KEY_FILE).touch()
    with pytest.raises(UserError, match="holds no key"):
        store_key()


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("s3://key:secret@bucket", "must not contain a key"),
        ("s3://bucket?token=x", "must not contain a key"),
        ("ftp://host/x", "is not supported"),
        ("s3://", "names no bucket"),
    ],
)
def test_an_address_is_checked_before_anything_else(store: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RunConfig(store=store)


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHARDMARK_STORE_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert store_key() is None
    first = store_key(make=True)
    assert first is not None
    assert first == store_key()
    (path,) = tmp_path.rglob("store.key")
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.secret.decode() not in first.name
    monkeypatch.setenv("SHARDMARK_STORE_KEY", "short")
    with pytest.raises(UserError, match="too short"):
        store_key()


def test_an_entry_whose_name_leads_elsewhere_is_none() -> None:
    key = digest("x")
    assert entry_at(f"predictions/{key}/sums/{key}.{key}.jsonl", 1) is not None
    for name in ("..", ".", ".x", "a/b", "a@b", "a\nb", ""):
        assert entry_at(f"predictions/{key}/{name}/{key}.{key}.jsonl", 1) is None


def test_many_refused_entries_are_counted(alice: Person, bob: Person) -> None:
    for path in entries(alice.store):
        path.write_bytes(b"{}\n")
    plan = bob.plan(store_trust="all")
    assert len(plan.warnings) == 5
    assert "entries refused; the first 5 are named" in plan.shared[-1]
