"""Bounds on memory and time for templates: the sandbox keeps them from doing harm, not from growing without end."""

import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import FrameType

MEMORY_BYTES = 2 << 30
"So much more memory than at the last step a step may take."
SECONDS = 10.0
"So long a step may take."
STEPS = 256
"The memory bound moves with the process once in so many steps: asking the kernel for it costs more than a step."


@contextmanager
def bounded_steps(memory: int = MEMORY_BYTES, seconds: float = SECONDS) -> Iterator[Callable[[], None]]:
    """A block of steps that get a MemoryError or a TimeoutError beyond these bounds; call the result before each.

    Time is bounded in the main thread only, which is the one that signals reach.
    """
    limits = resource.getrlimit(resource.RLIMIT_AS)
    timed = threading.current_thread() is threading.main_thread()
    numbers = count()

    def step() -> None:
        if next(numbers) % STEPS == 0:
            _allow(memory, limits)
        if timed:
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop) if timed else None
    timer = signal.setitimer(signal.ITIMER_REAL, 0) if timed else (0.0, 0.0)
    try:
        yield step
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            signal.setitimer(signal.ITIMER_REAL, *timer)


def _allow(memory: int, limits: tuple[int, int]) -> None:
    """Let this process grow by so many bytes, but not beyond the limits it had."""
    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    bounds = [bound for bound in limits if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([size + memory, *bounds]), limits[1]))
