"""Whether a worker gets on, told by its work and not by a thread beside it: that would go on when the work hangs.

A step is one pass of tokens through the model. On a slow CPU it may take minutes, so its time alone says little: a
worker that computes or reads is not still. But a GPU that hangs keeps a core busy waiting, so a step that takes far
longer than any before it is a hang as well.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STILL_SECONDS = 300.0
"Seconds for which a worker may neither finish a step, nor compute, nor read."
STEP_SECONDS, STEP_FACTOR = 1800.0, 20.0
"Seconds that a step may take, or how many times as long as the longest before it, whichever is more."
BUSY_SHARE = 0.05
"Share of one core from which on a process counts as computing; a thread that only looks around uses less."
BUSY_BYTES = 100_000
"Bytes a second from which on it counts as reading."

Usage = tuple[float, float]


def usage() -> Usage:
    """Seconds of processors and bytes read that this process has used."""
    counts = {}
    with suppress(OSError):  # some kernels don't tell
        counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return time.process_time(), float(counts.get("rchar", 0)) + float(counts.get("read_bytes", 0))


class Pulse:
    """What one process does. `beat` is called by its work; `fault` by a thread that watches, every few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, used: Callable[[], Usage] = usage) -> None:
        self._clock, self._used = clock, used
        self._longest = 0.0
        self._may_wait = self._may_load = False
        self._looked, self._before = clock(), used()
        self.start()

    def start(self) -> None:
        """Begin to count the time of the first step."""
        self._last = self._active = self._clock()

    def beat(self) -> None:
        """A step is done."""
        now = self._clock()
        self._longest, self._last = max(self._longest, now - self._last), now

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A block that may take for ever: others have the devices."""
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
        """Why the process is taken to hang; None if it does not."""
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
