"""A report's folder is whole, or not there."""

import os
from pathlib import Path

import pytest

from shardmark.errors import UserError
from shardmark.report import folder
from shardmark.report.folder import whole_folder


def fill(out: Path, text: str, fail: bool = False) -> None:
    with whole_folder(out) as new:
        (new / "index.html").write_text(text, "utf-8")
        assert not (out / "index.html").exists() or (out / "index.html").read_text("utf-8") != text
        if fail:
            raise RuntimeError("failed half-way")


def test_an_earlier_report_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    fill(tmp_path / "out", "old")
    (tmp_path / "out" / "samples").mkdir()
    fill(tmp_path / "out", "new")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "out",
        "out/index.html",
    ]
    assert (tmp_path / "out" / "index.html").read_text("utf-8") == "new"


def test_a_failure_leaves_the_earlier_report_as_it_was(tmp_path: Path) -> None:
    fill(tmp_path / "out", "old")
    with pytest.raises(RuntimeError, match="half-way"):
        fill(tmp_path / "out", "new", fail=True)
    assert (tmp_path / "out" / "index.html").read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


@pytest.mark.parametrize("at_once", [True, False])
def test_two_reports_for_one_place_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """Where folders cannot be exchanged at once, too, and even if another report comes between two renames."""
    rename, came = Path.rename, iter([True])

    def renamed(one: Path, other: Path) -> Path:
        if other.name == "out" and next(came, False):
            fill(tmp_path / "out", "another")
        return rename(one, other)

    monkeypatch.setattr(Path, "rename", renamed)
    if not at_once:
        monkeypatch.setattr(folder, "_exchange", lambda one, other: False)
    fill(tmp_path / "out", "new")
    assert (tmp_path / "out" / "index.html").read_text("utf-8") == "new"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_report_never_leaves_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "out", "old")
    monkeypatch.delattr(Path, "rename")
    fill(tmp_path / "out", "new")
    assert (tmp_path / "out" / "index.html").read_text("utf-8") == "new"


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_makes_is_not(tmp_path: Path) -> None:
    (tmp_path / "out.tmp-killed" / "data").mkdir(parents=True)
    os.utime(tmp_path / "out.tmp-killed", (0, 0))
    with whole_folder(tmp_path / "out") as new:
        os.utime(new, (0, 0))
        fill(tmp_path / "out", "another")
        assert {*tmp_path.iterdir()} == {new, tmp_path / "out"}


def test_others_may_read_the_folder(tmp_path: Path) -> None:
    fill(tmp_path / "out", "new")
    assert (tmp_path / "out").stat().st_mode & 0o055 == 0o055


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", "utf-8")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        fill(tmp_path, "new")
    assert (tmp_path / "thesis.tex").exists()
