"""GPUs are leased by one process at a time, all that it wants or none, until it ends however it ends.

No GPU is needed: CUDA_VISIBLE_DEVICES says which there are.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardmark.engine import devices
from shardmark.engine.devices import lease_gpus
from shardmark.errors import UserError

VISIBLE = "3,5,7,9"
SCRIPTS = Path(devices.__file__).parents[2]

LEASE = """
import os, sys, time
from pathlib import Path
from shardmark.engine import devices

locks, used, count, times, seconds = Path(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:])
devices.POLL_SECONDS = 0.01
for _ in range(int(times)):
    with devices.lease_gpus(int(count), locks) as mine:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(mine)
        assert len(mine) == count
        for device in mine:
            (used / device).open("x").close()  # fails if another process uses it now
        print("leased", flush=True)
        time.sleep(seconds)
        for device in mine:
            (used / device).unlink()
"""


@pytest.fixture(autouse=True)
def _visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", VISIBLE)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(devices, "POLL_SECONDS", 0.01)


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    return tmp_path / "locks"


@pytest.fixture
def used(tmp_path: Path) -> Path:
    folder = tmp_path / "used"
    folder.mkdir()
    return folder


class Holder:
    """A process that leases GPUs, some times one after another."""

    def __init__(self, locks: Path, used: Path, count: int, times: int, seconds: float) -> None:
        arguments = [sys.executable, "-c", LEASE, *map(str, (locks, used, count, times, seconds))]
        self.process = subprocess.Popen(
            arguments, env=os.environ | {"PYTHONPATH": str(SCRIPTS)}, stdout=subprocess.PIPE, text=True
        )

    def wait_until_leased(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "leased\n"


@pytest.fixture
def holders() -> Iterator[list[Holder]]:
    """Processes that are killed when the test ends."""
    started: list[Holder] = []
    yield started
    for holder in started:
        holder.process.kill()
        holder.process.communicate()


def test_processes_that_want_1_2_and_4_never_share_a_gpu(locks: Path, used: Path, holders: list[Holder]) -> None:
    holders += [Holder(locks, used, count, 5, 0.01) for count in (1, 1, 2, 2, 4)]
    assert [holder.process.wait(60) for holder in holders] == [0, 0, 0, 0, 0]
    assert list(used.iterdir()) == []


def test_the_gpus_of_a_killed_process_are_free_again(locks: Path, used: Path, holders: list[Holder]) -> None:
    holders.append(Holder(locks, used, 4, 1, 60))
    holders[0].wait_until_leased()
    got: list[list[str]] = []

    def lease() -> None:
        with lease_gpus(1, locks) as mine:
            got.append(mine)

    thread = threading.Thread(target=lease)
    thread.start()
    time.sleep(0.1)
    assert got == []
    holders[0].process.kill()
    thread.join(30)
    assert got == [["3"]]


def test_who_waits_for_all_holds_none(locks: Path) -> None:
    """Locks are held by open files, not by processes, so two leases of one process are like those of two."""
    leased = threading.Event()

    def lease_all() -> None:
        with lease_gpus(4, locks):
            leased.set()

    with lease_gpus(1, locks) as first:
        thread = threading.Thread(target=lease_all)
        os.environ["CUDA_VISIBLE_DEVICES"] = VISIBLE  # the lease above has hidden the others from this process
        thread.start()
        for _ in range(20):
            with lease_gpus(3, locks) as others:
                assert not set(first) & set(others)
            time.sleep(0.005)
        assert not leased.is_set()
    thread.join(30)
    assert leased.is_set()


def test_a_process_sees_its_own_gpus_only_until_it_gives_them_back(locks: Path) -> None:
    with lease_gpus(2, locks) as mine:
        assert mine == ["3", "5"]
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == VISIBLE
    with lease_gpus(4, locks) as mine:
        assert mine == ["3", "5", "7", "9"]


def test_gpus_are_given_back_after_an_error(locks: Path) -> None:
    with pytest.raises(RuntimeError, match="in the middle"), lease_gpus(4, locks):
        raise RuntimeError("in the middle")
    with lease_gpus(4, locks) as mine:
        assert len(mine) == 4


def test_a_variable_that_was_not_set_is_not_set_afterwards(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with lease_gpus(0, locks):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_no_gpu_hides_all_of_them_and_waits_for_nobody(locks: Path) -> None:
    with lease_gpus(4, locks):
        os.environ["CUDA_VISIBLE_DEVICES"] = VISIBLE
        with lease_gpus(0, locks) as mine:
            assert mine == []
            assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(("visible", "there"), [(VISIBLE, 4), ("3,5,-1,7", 2), ("", 0), ("-1", 0)])
def test_more_gpus_than_there_are_is_a_mistake_not_a_wait(
    locks: Path, monkeypatch: pytest.MonkeyPatch, visible: str, there: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with (
        pytest.raises(UserError, match=rf"{there + 1} GPUs are wanted, {there} are visible"),
        lease_gpus(there + 1, locks),
    ):
        pytest.fail("leased")


def test_mig_and_uuid_ids_are_leased_as_they_are(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ["MIG-GPU-1a2b/5/0", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(ids))
    with lease_gpus(1, locks) as first:
        assert first == ids[:1]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(ids)
        with lease_gpus(1, locks) as second:
            assert second == ids[1:]


def test_a_slurm_job_keeps_what_it_was_given(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with lease_gpus(2, locks) as mine:
        assert mine == ["3", "5", "7", "9"]
        assert os.environ["CUDA_VISIBLE_DEVICES"] == VISIBLE
    with lease_gpus(0, locks):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not locks.exists()


def test_all_users_of_the_machine_can_take_turns(locks: Path) -> None:
    mask = os.umask(0o077)
    try:
        with lease_gpus(1, locks):
            pass
    finally:
        os.umask(mask)
    assert locks.stat().st_mode & 0o7777 == 0o1777
    assert all(file.stat().st_mode & 0o444 == 0o444 for file in locks.iterdir())
