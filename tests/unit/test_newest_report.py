"""The run's name points to its newest report."""

import os
import threading
from pathlib import Path

import pytest

from projects import problems
from shardmark.workflow.newest_report import link_newest


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text(name)
    return tmp_path


def test_the_link_is_relative_so_that_results_can_be_moved(reports: Path) -> None:
    link_newest(reports / "old", reports / "run")
    assert os.readlink(reports / "run") == "old"
    moved = reports.rename(reports.with_name("moved"))
    assert (moved / "run/index.html").read_text() == "old"


def test_the_newest_report_takes_the_name(reports: Path) -> None:
    link_newest(reports / "old", reports / "run")
    link_newest(reports / "new", reports / "run")
    assert (reports / "run/index.html").read_text() == "new"
    assert sorted(os.listdir(reports)) == ["new", "old", "run"]


def test_a_link_that_is_right_is_left_alone(reports: Path) -> None:
    link_newest(reports / "old", reports / "run")
    before = (reports / "run").lstat()
    link_newest(reports / "old", reports / "run")
    assert (reports / "run").lstat() == before


def test_a_link_that_points_nowhere_is_replaced(reports: Path) -> None:
    (reports / "run").symlink_to("deleted")
    link_newest(reports / "new", reports / "run")
    assert (reports / "run/index.html").read_text() == "new"


def test_what_a_killed_process_left_is_no_obstacle(reports: Path) -> None:
    (reports / f".run.{os.getpid()}").symlink_to("old")
    link_newest(reports / "new", reports / "run")
    assert sorted(os.listdir(reports)) == ["new", "old", "run"]


def test_the_name_never_points_nowhere_while_it_changes(reports: Path) -> None:
    link_newest(reports / "old", reports / "run")
    done = threading.Event()

    def change() -> None:
        try:
            for _ in range(200):
                link_newest(reports / "new", reports / "run")
                link_newest(reports / "old", reports / "run")
        finally:
            done.set()

    thread = threading.Thread(target=change)
    thread.start()
    while not done.is_set():
        assert (reports / "run/index.html").read_text() in ("old", "new")
    thread.join()


def test_a_real_folder_is_not_touched(reports: Path) -> None:
    (reports / "run").mkdir()
    (reports / "run/notes.txt").write_text("mine")
    (problem,) = problems(link_newest, reports / "new", reports / "run")
    assert (problem.where, problem.what) == (str(reports / "run"), "is a folder, not a link")
    assert problem.fix
    assert (reports / "run/notes.txt").read_text() == "mine"
