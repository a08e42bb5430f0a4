"""Weights on a disk of the node: copied once, whole, and only if there is room."""

import logging
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from shardmark.engine import scratch
from shardmark.engine.scratch import SPARE, on_scratch
from shardmark.plan.machine import SCRATCH
from shardmark.records.model import Staged

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A model's folder, with a file that is a link, as in the Hub's cache."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "blob").write_bytes(b"weights" * 1000)
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    (folder / "sub/config.json").write_text("{}")
    for unused in (".hidden", "README.md", "model.gguf"):
        (folder / unused).write_text("x")
    return folder


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of copies."""
    monkeypatch.setenv(SCRATCH, str(tmp_path / "disk"))
    return tmp_path / "disk" / f"shardmark-{os.getuid()}"


def used(folder: Path) -> Path:
    """Where weights are loaded from."""
    with on_scratch(Staged(model=str(folder), tokenizer=str(folder))) as places:
        assert places.model == places.tokenizer
        return Path(places.model)


def test_weights_are_where_they_are_unless_a_folder_is_set(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SCRATCH, raising=False)
    assert used(weights) == weights


def test_a_copy_is_made_once_and_used_again(weights: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = used(weights)
    assert copy.parent == disk
    assert not (copy / "model.safetensors").is_symlink()
    assert sorted(p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file()) == [
        "model.safetensors",
        "sub/config.json",
    ]
    assert (copy / "model.safetensors").read_bytes() == b"weights" * 1000
    monkeypatch.setattr(scratch, "_copy", lambda *arguments: pytest.fail("copied again"))
    assert used(weights) == copy


def test_other_weights_in_the_same_folder_are_another_copy(weights: Path, disk: Path) -> None:
    first = used(weights)
    (weights / "sub/config.json").write_text("{ }")
    second = used(weights)
    assert second != first
    assert (second / "sub/config.json").read_text() == "{ }"


def test_a_copy_that_lost_a_file_is_made_anew(weights: Path, disk: Path) -> None:
    copy = used(weights)
    (copy / "model.safetensors").write_bytes(b"weig")
    assert used(weights) == copy
    assert (copy / "model.safetensors").read_bytes() == b"weights" * 1000


def test_a_disk_that_writes_something_else_is_not_used(
    weights: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scratch, "file_sha256", lambda path: "0" * 64)
    assert used(weights) == weights
    assert "differs from what was written to it" in caplog.text
    assert [path for path in disk.iterdir() if path.is_dir()] == []


@pytest.mark.slow
def test_processes_that_start_together_copy_once(weights: Path, disk: Path) -> None:
    code = (
        "import logging, sys; from shardmark.engine.scratch import on_scratch; logging.basicConfig(level=20)\n"
        "from shardmark.records.model import Staged\n"
        "with on_scratch(Staged(model=sys.argv[1], tokenizer=sys.argv[1])) as places: print(places.model)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(scratch.__file__).parents[2])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(weights)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(4)
    ]
    ended = [process.communicate() for process in started]
    assert {Path(out.strip()).parent for out, _ in ended} == {disk}
    assert sum("copying" in log for _, log in ended) == 1


def test_copies_that_nobody_uses_make_room(weights: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []
    for number in range(3):
        folder = shutil.copytree(weights, weights.with_name(f"model{number}"), symlinks=True)
        copies.append(used(folder))
        os.utime(copies[-1], (number, number))
    room = SPARE + 10_000

    def free(path: Path) -> Usage:
        return Usage(0, 0, room - 8_000 * sum(copy.exists() for copy in copies))

    monkeypatch.setattr(scratch.shutil, "disk_usage", free)
    used_now = str(weights.with_name("model0"))
    with on_scratch(Staged(model=used_now, tokenizer=used_now)):
        os.utime(copies[0], (0, 0))  # the oldest, but in use
        assert used(weights) == weights  # 7 kB would fit beside none of the others
        assert [copy.exists() for copy in copies] == [True, False, False]
    assert used(weights) != weights
    assert not copies[0].exists()


@pytest.mark.parametrize("folder", ["$SHARDMARK_NOT_SET/x", "/dev/null/x"])
def test_a_folder_that_is_not_there_is_a_warning(
    weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, folder: str
) -> None:
    monkeypatch.setenv(SCRATCH, folder)
    with caplog.at_level(logging.WARNING):
        assert used(weights) == weights
    assert "weights are not copied" in caplog.text
