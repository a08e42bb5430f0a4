"""A worker hangs if it neither steps nor computes, or if a step takes far longer than all before."""

import subprocess
import sys
from subprocess import PIPE

import pytest

from shardmark.engine.watchdog import STEP_SECONDS, STILL_SECONDS, Pulse, usage


class Worker:
    """A pulse of a process whose clock and use of the machine this test says."""

    def __init__(self) -> None:
        self.now, self.cpu, self.read = 0.0, 0.0, 0.0
        self.pulse = Pulse(lambda: self.now, lambda: (self.cpu, self.read))

    def goes_on(self, seconds: float, cores: float = 0.0, read: float = 0.0) -> str | None:
        """What is found when it does so much for so long, looked at every ten seconds."""
        for _ in range(round(seconds / 10)):
            self.now, self.cpu, self.read = self.now + 10, self.cpu + 10 * cores, self.read + 10 * read
            if fault := self.pulse.fault():
                return fault
        return None


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_one_long_step_on_a_slow_cpu_is_no_hang(worker: Worker) -> None:
    assert worker.goes_on(STEP_SECONDS, cores=2) is None


def test_a_step_that_computes_nothing_is_a_hang(worker: Worker) -> None:
    assert worker.goes_on(STILL_SECONDS) is None
    assert worker.goes_on(10, cores=0.01) == f"it has neither computed nor read for {STILL_SECONDS + 10:.0f} s"


def test_a_step_that_takes_far_longer_than_any_before_is_a_hang_even_if_a_core_is_busy(worker: Worker) -> None:
    worker.goes_on(500, cores=1)
    worker.pulse.beat()
    assert worker.goes_on(20 * 500, cores=1) is None
    assert worker.goes_on(10, cores=1) == "it has been at one step for 10010 s; the longest before took 500.0 s"


def test_steps_are_a_sign_of_life_whatever_the_kernel_tells_of_the_process(worker: Worker) -> None:
    for _ in range(100):
        assert worker.goes_on(STILL_SECONDS - 10) is None
        worker.pulse.beat()


def test_loading_may_take_as_long_as_it_reads_and_waiting_for_devices_for_ever(worker: Worker) -> None:
    with worker.pulse.waiting():
        assert worker.goes_on(1e5) is None
    with worker.pulse.loading():
        assert worker.goes_on(1e5, read=1e6) is None
        assert worker.goes_on(1e5) is not None
    assert worker.goes_on(STILL_SECONDS) is None


def test_the_time_between_two_jobs_is_no_step(worker: Worker) -> None:
    worker.now = 1e6
    worker.pulse.start()
    assert worker.goes_on(STILL_SECONDS) is None
    assert worker.goes_on(20) is not None


def test_what_a_process_uses_is_seen() -> None:
    cpu, read = usage()
    with open(__file__) as file:
        size = len(file.read())
    sum(range(10**6))
    after = usage()
    assert after[0] > cpu
    assert after[1] >= read + size


def test_what_its_processes_compute_and_read_counts_too() -> None:
    code = """
import sys, time
end = time.process_time() + 0.3
while time.process_time() < end:
    pass
open("/dev/zero", "rb").read(1 << 20)
print(flush=True)
sys.stdin.read()
"""
    before = usage()
    with subprocess.Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        seconds, read = usage()
        child.communicate(b"")
    assert seconds - before[0] > 0.25
    assert read - before[1] > 1 << 20
