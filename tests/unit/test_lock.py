"""The lock: what it holds, what moves it, and that neither a neighbour nor a kill loses any of it."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from projects import problems
from shardmark import command
from shardmark.errors import Problem, UserError
from shardmark.lock import lock as lock_module
from shardmark.lock.changes import Change, lock_lines
from shardmark.lock.lock import Lock

SCRIPTS = Path(command.__file__).parents[1]
A, B, C = "a" * 40, "b" * 40, "c" * 40
OLD, NEW = "1" * 64, "2" * 64
ROWS = {"path": "data/sums.jsonl", "sha256": OLD, "rows": 5}
SUMS = ("datasets", "sums", "file")
MODEL = ("models", "m", "folder")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config/benchmark.lock"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The Hub: what it is asked for. It answers with the commit B, and the cache with C."""
    questions: list[str] = []

    def ask(kind: str, repository: str, revision: str | None, where: str, cached: bool) -> str:
        questions.append(f"{kind} {repository} {revision} {'or cache' if cached else 'only'}")
        return B

    monkeypatch.setattr(lock_module, "ask_hub", ask)
    return questions


def written(path: Path, *pins: str, **records: dict[str, Any]) -> Lock:
    """A lock with models pinned to A and records of data sets, read anew."""
    first = {"hub": {"model": dict.fromkeys(pins, A)}, "datasets": {name: {"file": r} for name, r in records.items()}}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"version": 2} | first))
    return Lock(path)


# The file


def test_a_lock_is_written_a_value_a_line_in_the_order_of_names(path: Path) -> None:
    lock = Lock(path)
    lock.note(("datasets", "words", "data_root"), {"path": "words.jsonl", "sha256": NEW, "rows": 2})
    lock.note(SUMS, ROWS)
    lock.save()
    assert path.read_text().splitlines() == [
        "{",
        '  "version": 2,',
        '  "hub": {},',
        '  "models": {},',
        '  "datasets": {',
        '    "sums": {',
        '      "file": {',
        '        "path": "data/sums.jsonl",',
        f'        "sha256": "{OLD}",',
        '        "rows": 5',
        "      }",
        "    },",
        '    "words": {',
        '      "data_root": {',
        '        "path": "words.jsonl",',
        f'        "sha256": "{NEW}",',
        '        "rows": 2',
        "      }",
        "    }",
        "  }",
        "}",
    ]


def test_what_was_written_is_read_back_and_the_order_of_noting_does_not_matter(path: Path, tmp_path: Path) -> None:
    records = {("models", name, "folder"): {"path": name, "files": {}} for name in "bca"}
    other = tmp_path / "other.lock"
    for file, keys in ((path, list(records)), (other, list(reversed(records)))):
        lock = Lock(file)
        for key in keys:
            lock.note(key, records[key])
        lock.save()
    assert path.read_bytes() == other.read_bytes()
    assert {key: Lock(path).get(key) for key in Lock(path).known} == records


def test_the_first_format_is_read_and_goes_with_the_next_change(path: Path, asked: list[str]) -> None:
    path.parent.mkdir()
    old = {"model": {"org/m@main": A}, "dataset": {"org/d@v1": A}}
    path.write_text(json.dumps(old))
    lock = Lock(path)
    assert lock.commit("model", "org/m", None, "m.yaml") == lock.commit("dataset", "org/d", "v1", "d.yaml") == A
    assert (asked, lock.save(), json.loads(path.read_text())) == ([], [], old)
    lock.note(SUMS, ROWS)
    lock.save()
    assert json.loads(path.read_text()) == {
        "version": 2,
        "hub": {"dataset": old["dataset"], "model": old["model"]},
        "models": {},
        "datasets": {"sums": {"file": ROWS}},
    }


DAMAGED = {
    "": "Expecting value",
    "{": "Expecting property name",
    "<<<<<<< HEAD\n{}\n": "Expecting value",
    "[]": "",
    "[1]": "",
    "5": "",
    "\udcff": "utf-8",
    '{"model": 5}': "",
    '{"model": ["a"]}': "",
    '{"model": {"org/m@main": 5}}': "hub.model.org/m@main: 5",
    '{"models": {"m": {}}}': "unknown kind 'models'",
    '{"version": 3}': "its version is 3, but this Shardmark reads version 2",
    '{"version": 2, "modls": {}}': "unknown section 'modls'",
    '{"version": 2, "hub": {"models": {"org/m@main": "a"}}}': "unknown kind 'models'",
    '{"version": 2, "datasets": {"sums": {"file": "a"}}}': "datasets.sums.file: 'a'",
    '{"version": 2, "datasets": {"sums": {}, "sums": {}}}': "'sums' occurs twice",
    '{"version": 2, "contents": {"model": {"org/m@a": {"../b": {}}}}}': "'../b' points outside its folder",
    '{"version": 2, "contents": {"model": {"org/m@a": {"b": 5}}}}': "holds something other than sizes and hashes",
    '{"version": 2, "contents": {"space": {"org/m@a": {}}}}': "contents: unknown kind 'space'",
}


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_lock_is_refused_by_name(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_bytes(content.encode(errors="surrogateescape"))
    (problem,) = problems(Lock, path)
    assert problem.where == str(path)
    assert problem.what.startswith("not a valid lock: ")
    assert DAMAGED[content] in problem.what
    assert "git" in problem.fix


# What moves


def test_a_lock_that_learnt_nothing_is_not_written(path: Path, asked: list[str]) -> None:
    lock = written(path, "org/m@main", sums=ROWS)
    os.utime(path, ns=(1, 1))
    assert lock.commit("model", "org/m", None, "m.yaml") == A
    lock.note(SUMS, dict(ROWS))
    assert lock.save() == []
    assert path.stat().st_mtime_ns == 1
    assert asked == []


def test_each_entry_that_moved_is_a_line_and_new_ones_are_counted(path: Path, asked: list[str]) -> None:
    files = {"a.json": OLD, "b.json": OLD, "c.json": OLD}
    lock = written(path, sums=ROWS, words=ROWS)
    lock.note(MODEL, {"path": "weights", "files": files, "chat_template": None})
    lock.save()
    lock = Lock(path)
    lock.note(SUMS, {"path": "data/sums.jsonl", "sha256": NEW, "rows": 6})
    lock.note(("datasets", "words", "file"), ROWS | {"path": "words.jsonl"})
    moved = {"a.json": OLD, "b.json": NEW, "d.json": OLD}
    lock.note(MODEL, {"path": "weights", "files": moved, "chat_template": NEW})
    lock.note(("datasets", "new", "file"), ROWS)
    lock.commit("model", "org/m", None, "m.yaml")
    assert list(lock_lines(lock.save())) == [
        "lock: data set sums: sha256 111111111111 -> 222222222222, 5 -> 6 rows",
        "lock: data set words: path data/sums.jsonl -> words.jsonl",
        "lock: model m: b.json 111111111111 -> 222222222222, c.json 111111111111 -> absent, chat_template none -> "
        "222222222222, d.json absent -> 111111111111",
        "lock: 2 new in config/benchmark.lock, which should be committed",
    ]


def test_nothing_is_said_of_a_lock_that_stays() -> None:
    assert list(lock_lines([])) == []


def test_what_is_learnt_later_completes_a_record_and_stays_though_it_is_unknown_elsewhere(path: Path) -> None:
    record = {"repository": "org/m", "revision": "main", "commit": A}
    lock = Lock(path)
    lock.note(MODEL, record, {})
    lock.save()
    lock = Lock(path)
    lock.note(MODEL, record, {"chat_template": OLD})
    assert list(lock_lines(lock.save())) == ["lock: 1 completed in config/benchmark.lock, which should be committed"]
    for known in ({}, {"chat_template": NEW}):
        lock = Lock(path)
        lock.note(MODEL, record, known)
        assert lock.changes() == [], "the commit is the same, and so is what it holds"
    lock.note(MODEL, record | {"commit": B}, {})
    (change,) = lock.changes()
    assert change.new == record | {"commit": B}, "of another commit it is not known"


def test_a_record_that_gains_more_than_was_unknown_has_moved() -> None:
    old = {"path": "weights", "files": {}}
    assert Change(MODEL, old, old | {"chat_template": None}).is_completed
    assert not Change(MODEL, old, old | {"tokenizer": {"path": "words"}}).is_completed
    assert not Change(MODEL, old, {"path": "other", "files": {}, "chat_template": None}).is_completed
    assert not Change(MODEL, None, old).is_completed


def test_a_dropped_entry_is_shown_with_what_it_was() -> None:
    assert str(Change(SUMS, ROWS, None)) == "data set sums: dropped: path data/sums.jsonl, sha256 111111111111, rows 5"
    assert str(Change(("hub", "model", "org/m@v1"), A, B)) == "model on the Hub org/m@v1: aaaaaaaaaaaa -> bbbbbbbbbbbb"
    assert str(Change(("hub", "dataset", "o/d@v"), None, B)) == "data set on the Hub o/d@v: new: bbbbbbbbbbbb"


# Asking the Hub


def test_only_what_is_not_pinned_is_asked_for(path: Path, asked: list[str]) -> None:
    lock = written(path, "org/m@main")
    assert [lock.commit("model", "org/m", revision, "m.yaml") for revision in (None, "main", "v1", "v1")] == [
        A,
        A,
        B,
        B,
    ]
    assert asked == ["model org/m v1 or cache"]


def test_anew_every_branch_is_asked_for_once_and_no_commit(path: Path, asked: list[str]) -> None:
    written(path, "org/m@main", f"org/m@{A}")
    lock = Lock(path, anew=True)
    assert [lock.commit("model", "org/m", revision, "m.yaml") for revision in (None, "main", A)] == [B, B, A]
    assert asked == ["model org/m None only"], "the cache may be older than the lock"


# Frozen


def test_a_frozen_lock_names_everything_that_would_change_and_stays(path: Path, asked: list[str]) -> None:
    written(path, "org/m@main", sums=ROWS, same=ROWS)
    before = path.read_bytes()
    lock = Lock(path, frozen=True)
    assert lock.commit("model", "org/m", None, "m.yaml") == A
    lock.note(("datasets", "same", "file"), ROWS)
    lock.note(SUMS, {"path": "data/sums.jsonl", "sha256": NEW, "rows": 6})
    lock.note(("datasets", "new", "data_root"), {"path": "new.jsonl", "sha256": NEW, "rows": 1})
    relock = "accept the changes: `snakemake relock --profile local`, with this run's --configfile and --config"
    assert lock.refusals() == [
        Problem(
            str(path),
            "datasets.new.data_root",
            "new: path new.jsonl, sha256 222222222222, rows 1, but the lock is frozen",
            relock,
        ),
        Problem(
            str(path),
            "datasets.sums.file",
            "sha256 111111111111 -> 222222222222, 5 -> 6 rows, but the lock is frozen",
            f"restore data/sums.jsonl, or {relock}",
        ),
    ]
    (pin,) = problems(lock.commit, "dataset", "org/d", "v1", "config/datasets/d.yaml")
    assert (pin.key, pin.fix) == ("hub.dataset.org/d@v1", relock)
    assert "config/datasets/d.yaml" in pin.what
    assert (lock.save(), path.read_bytes(), asked) == ([], before, [])


def test_a_frozen_lock_may_leave_unknown_what_it_does_not_know(path: Path) -> None:
    record = {"repository": "org/m", "revision": "main", "commit": A}
    first = Lock(path)
    first.note(MODEL, record)
    first.save()
    before = path.read_bytes()
    lock = Lock(path, frozen=True)
    lock.note(MODEL, record, {"chat_template": OLD})
    assert (lock.refusals(), lock.save(), path.read_bytes()) == ([], [], before)


def test_a_lock_that_is_not_frozen_refuses_nothing(path: Path) -> None:
    lock = written(path, sums=ROWS)
    lock.note(SUMS, ROWS | {"rows": 6})
    assert lock.refusals() == []


# Dry runs


def test_a_dry_run_leaves_the_lock_and_the_run_after_it_pins_what_it_was_told(
    path: Path, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "results/plans/pins.json"
    dry = Lock(path, kept=kept)
    assert dry.commit("model", "org/m", None, "m.yaml") == B
    dry.learn_contents("model", "org/m", B, {"config.json": {"size": 2, "git": "a"}})
    dry.note(SUMS, ROWS)
    changes = dry.keep()
    assert [change.key for change in changes] == [SUMS, ("hub", "model", "org/m@main")]
    assert not path.exists()
    assert list(lock_lines(changes, dry=True)) == ["lock: 2 new in config/benchmark.lock, once this has run"]

    monkeypatch.setattr(lock_module, "ask_hub", lambda *_, **__: C)
    with pytest.raises(UserError, match="is not pinned yet"):
        Lock(path, frozen=True, kept=kept).commit("model", "org/m", None, "m.yaml")
    other = Lock(path, kept=kept)
    assert other.commit("model", "org/other", None, "m.yaml") == C
    other.save()
    assert kept.exists(), "another run does not need it"
    run = Lock(path, kept=kept)
    assert run.commit("model", "org/m", None, "m.yaml") == B, "the branch has moved since"
    assert run.contents("model", "org/m", B) == {"config.json": {"size": 2, "git": "a"}}
    run.save()
    assert not kept.exists()
    assert Lock(path).commit("model", "org/m", None, "m.yaml") == B
    assert Lock(path).get(SUMS) is None, "files are read again"


def test_what_a_dry_run_kept_and_is_damaged_is_asked_for_again(path: Path, asked: list[str], tmp_path: Path) -> None:
    kept = tmp_path / "pins.json"
    kept.write_text("{")
    assert Lock(path, kept=kept).commit("model", "org/m", None, "m.yaml") == B
    assert len(asked) == 1


# Neighbours and accidents

WRITER = """
import sys
from pathlib import Path
from shardmark.lock.lock import Lock
for number in range(int(sys.argv[3])):
    lock = Lock(Path(sys.argv[1]))
    lock.note(("models", f"{sys.argv[2]}-{number}", "folder"), {"path": "x" * 1000, "files": {}})
    lock.save()
"""


def writer(path: Path, name: str, count: int) -> "subprocess.Popen[bytes]":
    """A process that writes so many records of models into the lock, one after the other."""
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(SCRIPTS)})


def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    names = ("one", "two", "three")
    for process in [writer(path, name, 12) for name in names]:
        assert process.wait(60) == 0
    assert Lock(path).known == {("models", f"{name}-{n}", "folder") for name in names for n in range(12)}


def test_two_plans_of_one_moment_keep_each_others_entries(path: Path, asked: list[str]) -> None:
    written(path, sums=ROWS, words=ROWS)
    first, second = Lock(path), Lock(path)
    first.commit("model", "org/m", None, "m.yaml")
    first.note(SUMS, ROWS | {"rows": 6})
    second.commit("dataset", "org/d", None, "d.yaml")
    second.note(MODEL, {"path": "weights", "files": {}})
    second.drop(("datasets", "words", "file"))
    first.save()
    second.save()
    lock = Lock(path)
    assert lock.known == {("hub", "model", "org/m@main"), ("hub", "dataset", "org/d@main"), MODEL, SUMS}
    assert lock.get(SUMS)["rows"] == 6


def test_two_plans_that_pin_a_branch_to_different_commits_are_told(
    path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Lock(path), Lock(path)
    first.commit("model", "org/m", None, "m.yaml")
    monkeypatch.setattr(lock_module, "ask_hub", lambda *_, **__: C)
    second.commit("model", "org/m", None, "m.yaml")
    first.save()
    before = path.read_bytes()
    (problem,) = problems(second.save)
    assert (problem.key, problem.fix) == ("hub.model.org/m@main", "run again")
    assert B in problem.what
    assert C in problem.what
    assert path.read_bytes() == before


def test_a_writer_that_is_killed_leaves_a_whole_lock_and_does_not_keep_it(path: Path) -> None:
    written(path, sums=ROWS)
    process = writer(path, "killed", 100_000)
    deadline = time.monotonic() + 60
    while len(Lock(path).known) < 10:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    process.wait()
    lock = Lock(path)
    assert lock.get(SUMS) == ROWS
    lock.note(MODEL, {"path": "weights", "files": {}})
    lock.save()
    assert Lock(path).get(MODEL)


def test_a_lock_that_someone_else_keeps_is_told_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = written(path, sums=ROWS)
    lock.note(SUMS, ROWS | {"rows": 6})
    monkeypatch.setattr(lock_module, "PATIENCE", 0.05)
    with FileLock(path.parent / ".benchmark.lock.writing"):
        (problem,) = problems(lock.save)
    assert "another process has been writing it" in problem.what
    assert ".benchmark.lock.writing" in problem.fix


@pytest.mark.parametrize("refusal", [errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_written_to_by_one_at_a_time(
    path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def flock(*arguments: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr("fcntl.flock", flock)
    lock = written(path, sums=ROWS)
    lock.note(SUMS, ROWS | {"rows": 6})
    lock.save()
    assert Lock(path).get(SUMS) == ROWS | {"rows": 6}
    assert sorted(file.name for file in path.parent.iterdir() if "here" in file.name) == []
    monkeypatch.setattr(lock_module, "PATIENCE", 0.05)
    held = ".benchmark.lock.writing" + ("" if refusal == errno.ENOSYS else "-here")
    (path.parent / held).touch()
    lock.note(SUMS, ROWS | {"rows": 7})
    (problem,) = problems(lock.save)
    assert held in problem.fix


def test_a_lock_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    lock = Lock(tmp_path / "config/benchmark.lock")
    lock.note(SUMS, ROWS)
    (tmp_path / "config").rmdir()
    (tmp_path / "config").write_text("a file where the folder was")
    (problem,) = problems(lock.save)
    assert problem.what.startswith("cannot be written: ")
    assert "permissions" in problem.fix
