"""Whether a worker makes progress, judged by its work: a separate thread would go on when the work hangs.

A step is one pass of tokens through the model. On a slow CPU it may take minutes, so its time alone says little: a
worker that computes or reads counts as active. But a hanging GPU keeps a core busy waiting, so a step that takes far
longer than any before it counts as a hang as well.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shardmark.untrusted.process_tree import TICKS, descendants

STILL_SECONDS = 300.0
"The most seconds that a worker may neither finish a step, nor compute, nor read."
STEP_SECONDS, STEP_FACTOR = 1800.0, 20.0
"Limits of a step: seconds, or a multiple of the longest step before it, whichever is more."
BUSY_SHARE = 0.05
"Share of one core from which on a process counts as computing; a thread that only polls uses less."
BUSY_BYTES = 100_000
"Bytes per second from which on it counts as reading."

Usage = tuple[float, float]


def usage() -> Usage:
    """CPU seconds used and bytes read by this process and those it has started.

    With several GPUs, vLLM loads and computes in processes of its own, and this one only waits for them.
    """
    seconds, read = time.process_time(), 0.0
    for pid in descendants(os.getpid()):
        with suppress(OSError, ValueError, IndexError):  # the process has ended meanwhile, or the kernel does not say
            counts = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
            read += float(counts.get("rchar", 0)) + float(counts.get("read_bytes", 0))
        with suppress(OSError, ValueError, IndexError):
            if pid != os.getpid():
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                seconds += sum(map(int, fields[11:13])) / TICKS
    return seconds, read


class Pulse:
    """The activity of one process. `beat` is called by its work; `fault` by a watching thread, every few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, used: Callable[[], Usage] = usage) -> None:
        self._clock, self._used = clock, used
        self._longest = 0.0
        self._may_wait = self._may_load = False
        self._looked, self._before = clock(), used()
        self.start()

    def start(self) -> None:
        """Start the clock of the first step."""
        self._last = self._active = self._clock()

    def beat(self) -> None:
        """Note the end of a step."""
        now = self._clock()
        self._longest, self._last = max(self._longest, now - self._last), now

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A block that may take for ever: other processes hold the devices."""
        self._may_wait = True
        try:
            yield
        finally:
            self.start()
            self._may_wait = False

    @contextmanager
    def loading(self) -> Iterator[None]:
        """A block without steps, which may take as long as it computes or reads."""
        self._may_load = True
        try:
            yield
        finally:
            self.start()
            self._may_load = False

    def fault(self) -> str | None:
        """The reason why the process is considered to hang; None if it isn't."""
        now, used = self._clock(), self._used()
        passed = now - self._looked
        computed, read = (new - old for new, old in zip(used, self._before, strict=True))
        if computed > BUSY_SHARE * passed or read > BUSY_BYTES * passed:
            self._active = now
        self._looked, self._before = now, used
        still, step = now - max(self._active, self._last), now - self._last
        if self._may_wait:
            return None
        if still > STILL_SECONDS:
            return f"it has neither computed nor read for {still:.0f} s"
        if not self._may_load and step > max(STEP_SECONDS, STEP_FACTOR * self._longest):
            return f"it has been at one step for {step:.0f} s; the longest before took {self._longest:.1f} s"
        return None
