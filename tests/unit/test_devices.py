"""GPUs are leased by one process at a time, all that it wants or none, until it ends however it ends.

No GPU is needed: CUDA_VISIBLE_DEVICES says which there are.
"""

import fcntl
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fake_gpus import nvidia_smi
from shardmark.engine import devices
from shardmark.engine.devices import default_locks, lease_gpus
from shardmark.errors import UserError

VISIBLE = "3,5,7,9"
SCRIPTS = Path(devices.__file__).parents[2]
NURSERY = """
import os, signal, sys
from pathlib import Path
from shardmark.engine import devices

locks, devices.ASK_SECONDS = Path(sys.argv[1]), 1e5  # so that whoever is not woken waits for ever
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

def job(number, count):
    with devices.lease_gpus(count, locks) as mine:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(mine)
        os.write(1, f"{number} {os.getpid()} {','.join(mine)}\\n".encode())
        signal.sigwait({signal.SIGUSR1})

for line in sys.stdin:
    number, count, devices.PATIENCE_SECONDS = map(int, line.split())
    if pid := os.fork():
        os.write(1, f"{number} {pid} \\n".encode())
    else:
        try:
            job(number, count)
        finally:
            os._exit(0)
"""
"Starts a process for each line `number count patience`, which leases GPUs until SIGUSR1."


@pytest.fixture(autouse=True)
def _visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", VISIBLE)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    return tmp_path / "locks"


class Jobs:
    """Processes that lease GPUs: those that wait, and those that have them, as this test knows by what it has heard."""

    def __init__(self, locks: Path) -> None:
        command = [sys.executable, "-c", NURSERY, str(locks)]
        environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
        pipe = subprocess.PIPE
        self.nursery = subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=pipe, text=True, bufsize=1, start_new_session=True
        )
        self.said: queue.Queue[str] = queue.Queue()
        threading.Thread(
            target=lambda: [self.said.put(line) for line in self.nursery.stdout or ()], daemon=True
        ).start()
        self.pids: dict[int, int] = {}
        self.waiting: dict[int, int] = {}
        self.holding: dict[int, list[str]] = {}

    def _listen(self) -> None:
        for line in self.nursery.stdout or ():
            self.said.put(line)

    def start(self, number: int, count: int, patience: int = 600) -> None:
        """Start a job of so many GPUs."""
        assert self.nursery.stdin is not None
        self.waiting[number] = count
        self.nursery.stdin.write(f"{number} {count} {patience}\n")
        while number not in self.pids:
            self.hear()

    def hear(self, seconds: float = 60) -> None:
        """Take in the next word of a job; raises Empty if there is none. No job has a GPU of another."""
        number, pid, gpus = self.said.get(timeout=seconds).rstrip("\n").split(" ")
        self.pids[int(number)] = int(pid)
        if gpus and int(number) in self.waiting:  # else it has been killed since
            mine, others = gpus.split(","), [gpu for held in self.holding.values() for gpu in held]
            wanted = self.waiting.pop(int(number))
            self.holding[int(number)] = mine
            assert len(set(mine)) == wanted
            assert not set(others) & set(mine)

    def free(self) -> int:
        """How many GPUs nobody has."""
        return len(os.environ["CUDA_VISIBLE_DEVICES"].split(",")) - sum(map(len, self.holding.values()))

    def settle(self) -> None:
        """Wait until no GPUs are idle that are enough for a job that waits."""
        while any(count <= self.free() for count in self.waiting.values()):
            self.hear()

    def end(self, number: int, how: signal.Signals) -> None:
        """Kill a job, or let it end."""
        self.waiting.pop(number, None)
        self.holding.pop(number, None)
        os.kill(self.pids[number], how)

    def close(self) -> None:
        """Kill all of them."""
        os.killpg(self.nursery.pid, signal.SIGKILL)
        self.nursery.wait()


@pytest.fixture
def jobs(locks: Path) -> Iterator[Callable[[], Jobs]]:
    """Makes Jobs that are killed when the test ends."""
    started: list[Jobs] = []
    yield lambda: started.append(Jobs(locks)) or started[-1]
    for one in started:
        one.close()


def test_a_hundred_jobs_never_share_a_gpu_nor_leave_one_idle_that_suffices_for_a_job(
    jobs: Callable[[], Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs of 1, 2 and 4 of eight GPUs; many are killed, while they wait, take GPUs, or have them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    mine, chance, served, killed = jobs(), random.Random(5), [0, 0, 0, 0, 0], 0
    left = [(number, chance.choice([1, 2, 4])) for number in range(100)]
    while left or mine.waiting or mine.holding:
        while left and len(mine.waiting) < 8:
            mine.start(*left.pop())
        if mine.waiting and chance.random() < 0.2:
            mine.end(chance.choice(list(mine.waiting)), signal.SIGKILL)
            killed += 1
        mine.settle()
        if mine.holding:
            number = chance.choice(list(mine.holding))
            served[len(mine.holding[number])] += 1
            mine.end(number, chance.choice([signal.SIGKILL, signal.SIGUSR1]))
    assert killed + sum(served) == 100
    assert all(served[count] for count in (1, 2, 4))


def test_who_has_waited_for_long_keeps_what_becomes_free(jobs: Callable[[], Jobs]) -> None:
    """So a job of four gets them, although there are always smaller ones that what is free suffices for."""
    mine = jobs()
    for number in range(1, 7):
        mine.start(number, 1)
    while len(mine.holding) < 4:
        mine.hear()
    mine.start(0, 4, patience=0)
    while 0 in mine.waiting:
        if mine.holding:
            mine.end(min(mine.holding), signal.SIGUSR1)
            mine.start(max(mine.pids) + 1, 1)
        with suppress(queue.Empty):  # the large one keeps what it gets without a word
            mine.hear(0.2 if mine.holding else 60)
    assert mine.holding == {0: ["3", "5", "7", "9"]}


def test_two_names_of_a_gpu_are_one_gpu(
    jobs: Callable[[], Jobs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(tmp_path, monkeypatch, ["GPU-a1", "GPU-b2"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    by_index = jobs()
    by_index.start(0, 1)
    by_index.settle()
    assert by_index.holding == {0: ["GPU-b2"]}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b2,GPU-a1")
    by_name = jobs()
    by_name.start(0, 1)
    by_name.settle()
    assert by_name.holding == {0: ["GPU-a1"]}


def test_who_waits_for_all_holds_none(locks: Path) -> None:
    """Locks are held by open files, not by processes, so two leases of one process are like those of two."""
    leased = threading.Event()

    def lease_all() -> None:
        with lease_gpus(4, locks):
            leased.set()

    with lease_gpus(1, locks) as first:
        thread = threading.Thread(target=lease_all, daemon=True)
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
        pytest.raises(UserError, match=rf"{there + 1} GPUs are needed, but {there} are visible"),
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


def test_processes_of_a_slurm_job_share_its_gpus_out_and_those_of_another_job_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm may call the devices of each job 0, 1, ..."""
    monkeypatch.setenv("SHARDMARK_DEVICE_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with lease_gpus(3) as mine:
        assert mine == ["3", "5", "7"]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", VISIBLE)
        with lease_gpus(1) as more:
            assert more == ["9"]
        monkeypatch.setenv("SLURM_JOB_ID", "2")
        with lease_gpus(4) as others:
            assert others == mine + more


def test_the_temporary_folder_of_a_run_is_not_that_of_the_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHARDMARK_DEVICE_LOCKS", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert default_locks() == Path("/tmp/shardmark-devices")


def test_a_turn_that_somebody_keeps_holds_nobody_up(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "TURN_SECONDS", 0.01)
    locks.mkdir()
    with devices._lock_file(locks / devices.TURN) as squatted:
        fcntl.flock(squatted, fcntl.LOCK_EX)
        with lease_gpus(4, locks) as mine:
            assert len(mine) == 4


def test_who_waits_says_who_has_the_gpus(
    locks: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(devices, "SAY_SECONDS", (0.0, 600.0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with lease_gpus(1, locks):
        thread = threading.Thread(target=lambda: lease_gpus(1, locks).__enter__(), daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not caplog.messages and time.monotonic() < deadline:
            time.sleep(0.01)
    thread.join(60)
    assert caplog.messages[0].startswith(f"waiting for 1 GPUs; 7 is held by process {os.getpid()} of ")


@pytest.mark.parametrize("taken", ["", "7"])
def test_a_folder_or_lock_that_another_user_keeps_to_himself_is_named(
    locks: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    locks.mkdir()
    (locks / "7").touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    if taken:
        monkeypatch.setattr(os, "open", refuse(os.open, locks / taken))  # root may open everything
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError) as error, lease_gpus(1, locks):
        pytest.fail("leased")
    (problem,) = error.value.problems
    assert problem.where == str(locks / taken)
    assert "is not accessible to you: it belongs to " in problem.what
    assert "SHARDMARK_DEVICE_LOCKS" in problem.fix


def refuse(function: Callable[..., int], refused: Path) -> Callable[..., int]:
    """A function that opens all files but one."""

    def open_or_refuse(path: Path, *arguments: int) -> int:
        if path == refused:
            raise PermissionError(13, "Permission denied", str(path))
        return function(path, *arguments)

    return open_or_refuse


def test_a_note_that_cannot_be_written_costs_no_more_than_itself(
    locks: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another user may have put a file there: in a folder like /tmp nobody else can replace it."""
    devices._holder(locks, "3").mkdir(parents=True)
    with lease_gpus(1, locks, holder=Path("/some/socket")) as mine:
        assert mine == ["3"]
    assert "processes that wait for 3 cannot ask this worker to leave" in caplog.text
    assert not devices._ask_holder(locks, "3")


def test_all_users_of_the_machine_can_take_turns(locks: Path) -> None:
    mask = os.umask(0o077)
    try:
        with lease_gpus(1, locks):
            pass
    finally:
        os.umask(mask)
    assert locks.stat().st_mode & 0o7777 == 0o1777
    assert all(file.stat().st_mode & 0o444 == 0o444 for file in locks.iterdir())
