"""Bounds on memory and time for templates: the sandbox keeps them from doing harm, not from growing without end."""

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

MEMORY_BYTES = 2 << 30
"So much more memory than at the last step a step may take."
SECONDS = 10.0
"So long a step may take."
STEPS = 256
"The memory bound moves with the process once in so many steps: asking the kernel for it costs more than a step."


class Step:
    """A block of work within the bounds: `with step: ...`, again and again."""

    def __init__(self, memory: int, seconds: float, limits: tuple[int, int], timed: bool) -> None:
        self._memory, self._seconds, self._limits, self._timed = memory, seconds, limits, timed
        self._count = 0

    def __enter__(self) -> None:
        if self._count % STEPS == 0:
            _allow(self._memory, self._limits)
        self._count += 1
        if self._timed:
            signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *error: object) -> None:
        if self._timed:
            signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def bounded_steps(memory: int = MEMORY_BYTES, seconds: float = SECONDS) -> Iterator[Step]:
    """Steps that get a MemoryError or a TimeoutError beyond these bounds.

    Time is bounded in the main thread only, which is the one that signals reach.
    """
    limits = resource.getrlimit(resource.RLIMIT_AS)
    timed = threading.current_thread() is threading.main_thread()

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop) if timed else None
    timer = signal.setitimer(signal.ITIMER_REAL, 0) if timed else (0.0, 0.0)
    try:
        yield Step(memory, seconds, limits, timed)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        if timed:
            signal.signal(signal.SIGALRM, before)
            signal.setitimer(signal.ITIMER_REAL, *timer)


def _allow(memory: int, limits: tuple[int, int]) -> None:
    """Let this process grow by so many bytes, but not beyond the limits it had."""
    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    bounds = [bound for bound in limits if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([size + memory, *bounds]), limits[1]))
