"""A report's folder is whole, or not there."""

from pathlib import Path

import pytest

from shardmark.errors import UserError
from shardmark.report.folder import whole_folder


def fill(out: Path, text: str, fail: bool = False) -> None:
    with whole_folder(out) as folder:
        (folder / "index.html").write_text(text, "utf-8")
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


def test_others_may_read_the_folder(tmp_path: Path) -> None:
    fill(tmp_path / "out", "new")
    assert (tmp_path / "out").stat().st_mode & 0o055 == 0o055


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", "utf-8")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        fill(tmp_path, "new")
    assert (tmp_path / "thesis.tex").exists()
