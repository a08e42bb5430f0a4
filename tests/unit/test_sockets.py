"""Clients and workers of a run meet in a folder that no other user can open, and a claim ends with its holder."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardmark.errors import UserError
from shardmark.processes import sockets as rendezvous
from shardmark.processes.places import LONGEST
from shardmark.processes.sockets import (
    LOCK,
    SOCKET,
    ask_to_leave,
    check_peer,
    claimed,
    connect,
    run_folder,
)

NOBODY = 65534
LONGEST_NAME = f"{'0' * 16}-{'0' * 8}{SOCKET}"
HOLD = """
import sys
from pathlib import Path
from shardmark.processes.sockets import claimed

with claimed(Path(sys.argv[1])) as idle:
    print(idle, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for runs that all users can open, with a short name."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def worker(base: Path) -> Iterator[tuple[Path, socket.socket]]:
    """The socket of something that listens like a worker, by its path and itself."""
    path = run_folder(os.getpid()) / f"key-0{SOCKET}"
    path.with_suffix(LOCK).touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        yield path, listener


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def as_nobody(attempt: Callable[[], object]) -> str:
    """How an attempt ends for another user: the name of its error, or "nothing"."""
    if os.getuid():
        pytest.skip("only root can try what another user can do")
    context = multiprocessing.get_context("fork")  # another user may not start this Python
    said = context.SimpleQueue()

    def run() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            attempt()
        except Exception as error:
            said.put(type(error).__name__)
        else:
            said.put("nothing")

    process = context.Process(target=run)
    process.start()
    process.join(30)
    return str(said.get())


def open_to_all(path: Path) -> None:
    """As if the folder's permissions had failed."""
    path.parent.parent.chmod(0o777)
    path.parent.chmod(0o777)
    path.chmod(0o777)


def test_a_run_has_one_folder_and_another_run_another(base: Path) -> None:
    assert run_folder(os.getpid()) == run_folder(os.getpid())
    assert run_folder(os.getpid()) != run_folder(os.getppid())
    assert base in run_folder(os.getpid()).parents


def test_the_folder_is_the_users_alone_whatever_the_umask(base: Path) -> None:
    mask = os.umask(0)
    try:
        folder = run_folder(os.getpid())
    finally:
        os.umask(mask)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)} == {0o700}


def test_folders_of_runs_that_are_over_are_removed_and_no_others(base: Path, ended: int) -> None:
    mine = run_folder(os.getpid())
    over, reused, other = (mine.parent / name for name in (f"{ended}-5", f"{os.getppid()}-5", "something-else"))
    for folder in (over, reused, other):
        (folder / "sub").mkdir(parents=True)
    parent = run_folder(os.getppid())
    assert sorted(mine.parent.iterdir()) == sorted([mine, parent, other])


def test_a_run_that_has_ended_gets_no_folder(base: Path, ended: int) -> None:
    with pytest.raises(UserError, match=f"--owner: process {ended} has ended"):
        run_folder(ended)
    assert not list(base.glob(f"*/{ended}-*"))


def test_a_process_that_was_killed_is_gone_before_its_parent_asks_for_it() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert rendezvous.started(process.pid) != "0"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert rendezvous.started(process.pid) == "0"


@pytest.mark.parametrize("level", ["base", "run"])
@pytest.mark.parametrize("mode", [0o755, 0o720, 0o701])
def test_a_folder_that_is_open_to_others_is_refused_by_name(base: Path, level: str, mode: int) -> None:
    folder = run_folder(os.getpid())
    folder = folder if level == "run" else folder.parent
    folder.chmod(mode)
    with pytest.raises(UserError, match=rf"{folder}: is open to others\n.*remove it, or set TMPDIR"):
        run_folder(os.getpid())


@pytest.mark.parametrize("level", ["base", "run"])
def test_a_folder_of_another_user_is_refused(base: Path, level: str) -> None:
    if os.getuid():
        pytest.skip("only root can make a folder another user's")
    folder = run_folder(os.getpid())
    os.chown(folder if level == "run" else folder.parent, NOBODY, NOBODY)
    with pytest.raises(UserError, match="is open to others"):
        run_folder(os.getpid())


@pytest.mark.parametrize("make", [lambda path, to: path.symlink_to(to), lambda path, to: path.touch()])
def test_what_is_no_folder_is_refused(base: Path, tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    tmp_path.chmod(0o700)
    make(base / f"shardmark-{os.getuid()}", tmp_path)
    with pytest.raises(UserError, match=rf"shardmark-{os.getuid()}: is open to others"):
        run_folder(os.getpid())


@pytest.mark.parametrize("length", [LONGEST - 1, LONGEST, LONGEST + 1, 107, 250])
def test_a_socket_can_be_bound_whatever_the_length_of_tmpdir(
    base: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    temporary = base / ("x" * (length - len(str(base)) - 1))
    temporary.mkdir(mode=0o700)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv("TMPDIR", str(temporary))
    folder = run_folder(os.getpid())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / LONGEST_NAME))
    assert (temporary in folder.parents) == (length <= LONGEST)
    shutil.rmtree(folder)


def test_a_socket_fits_with_the_largest_numbers_of_user_process_and_start() -> None:
    path = f"{'x' * LONGEST}/shardmark-{(1 << 32) - 2}/{(1 << 22) - 1}-{10**10 - 1}/{LONGEST_NAME}"
    assert len(path) <= 107


def test_a_runtime_folder_that_is_gone_is_no_obstacle(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is removed when the user logs out, even if the run goes on."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base / "gone"))
    monkeypatch.setenv("TMPDIR", str(base))
    assert base in run_folder(os.getpid()).parents


def test_another_user_can_neither_see_nor_claim_nor_reach_a_worker(worker: tuple[Path, socket.socket]) -> None:
    path, _ = worker
    path.parent.parent.parent.chmod(0o777)
    path.chmod(0o777)
    assert as_nobody(lambda: os.listdir(path.parent)) == "PermissionError"
    assert as_nobody(lambda: claimed(path).__enter__()) == "PermissionError"
    assert as_nobody(lambda: socket.socket(socket.AF_UNIX).connect(str(path))) == "PermissionError"


def test_a_worker_refuses_another_user_even_where_the_folder_lets_him_in(worker: tuple[Path, socket.socket]) -> None:
    path, listener = worker
    open_to_all(path)
    assert as_nobody(lambda: socket.socket(socket.AF_UNIX).connect(str(path))) == "nothing"
    connection, _ = listener.accept()
    with connection, pytest.raises(PermissionError, match=f"user {NOBODY}"):
        check_peer(connection)


def test_a_client_refuses_the_worker_of_another_user(worker: tuple[Path, socket.socket]) -> None:
    path, _ = worker
    open_to_all(path)
    assert as_nobody(lambda: connect(path)) == "PermissionError"  # the listener is not nobody's


def test_both_ends_know_each_others_process(worker: tuple[Path, socket.socket]) -> None:
    path, listener = worker
    with connect(path) as ours, listener.accept()[0] as theirs:
        assert check_peer(ours) == check_peer(theirs) == os.getpid()


def test_a_worker_is_claimed_by_one_client_at_a_time(worker: tuple[Path, socket.socket]) -> None:
    path, _ = worker
    with claimed(path) as first, claimed(path) as second:
        assert (first, second) == (True, False)
    with claimed(path) as third:
        assert third


def test_a_claim_ends_with_its_holder_however_it_ends(worker: tuple[Path, socket.socket]) -> None:
    path, _ = worker
    environment = os.environ | {"PYTHONPATH": str(Path(rendezvous.__file__).parents[2])}
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with claimed(path) as mine:
            assert not mine
        holder.send_signal(signal.SIGKILL)
    with claimed(path) as mine:
        assert mine


def test_a_worker_that_has_left_cannot_be_claimed_and_nothing_is_left_of_the_attempt(base: Path) -> None:
    folder = run_folder(os.getpid())
    with claimed(folder / f"key-0{SOCKET}") as mine:
        assert not mine
    with claimed(folder / "gone" / f"key-0{SOCKET}") as mine:
        assert not mine
    assert list(folder.iterdir()) == []


def test_claiming_does_not_touch_what_is_in_the_lock_file(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text("somebody's own\n")
    with claimed(tmp_path / "uv.sock"):
        pass
    assert (tmp_path / "uv.lock").read_text() == "somebody's own\n"


class Asked(threading.Thread):
    """A worker that notes what it is asked, and whether it was claimed meanwhile."""

    def __init__(self, path: Path, listener: socket.socket) -> None:
        super().__init__(daemon=True)
        self.path, self.listener, self.heard, self.claimed = path, listener, {}, False
        self.start()

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rb") as lines:
            self.heard = json.loads(lines.readline())
            with claimed(self.path) as free:
                self.claimed = not free
            self.path.unlink()


def test_who_asks_an_idle_worker_to_leave_keeps_others_off_until_it_has(worker: tuple[Path, socket.socket]) -> None:
    asked = Asked(*worker)
    assert ask_to_leave(worker[0])
    assert not worker[0].exists()
    asked.join(30)
    assert asked.heard == {"leave": True}
    assert asked.claimed


def test_a_worker_at_work_is_not_asked_to_leave(worker: tuple[Path, socket.socket]) -> None:
    path, listener = worker
    with claimed(path):
        assert not ask_to_leave(path)
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("what", ["no folder", "no socket", "nobody listens", "no answer", "too many wait"])
def test_a_worker_that_cannot_leave_is_not_waited_for(
    worker: tuple[Path, socket.socket], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(rendezvous, "LEAVE_SECONDS", 0.1)
    path, listener = worker
    if what == "no folder":
        path = path.parent / "gone" / path.name
    if what == "no socket":
        path.unlink()
    if what == "nobody listens":
        listener.close()
    waiting = [connect(path) for _ in range(2)] if what == "too many wait" else []
    assert not ask_to_leave(path)
    for connection in waiting:
        connection.close()
