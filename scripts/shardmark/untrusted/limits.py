"""Bounds on time and memory for templates and patterns: a sandbox keeps them from harm, but not from running forever.

Time is this process's computing time, so that a busy machine changes nothing. A signal ends a step that takes too long,
even within Python's code or its regular expressions. What it raises is not an Exception, since Jinja and the code of
tasks swallow those. Some of Python's own work cannot be interrupted, such as comparing lists that hold each other; then
a separate process (watcher.py) reports what took too long, and ends this one.
"""

import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType

import psutil

from shardmark.errors import Problem, UserError
from shardmark.untrusted.watcher import Watched

MEMORY_BYTES = 2 << 30
"How much more memory than before a step may take, in bytes."
SECONDS = 10.0
"Seconds of computing time that a step may take."
TICKS = 10
"How many signals come within a step's time; they go on after it, since code may swallow what one raises."
STEPS = 256
"How many steps before the memory bound is set again: asking the kernel for the size costs more than a step."


FIX = "correct the template or pattern: its output or its work grows without end"


class TooLong(BaseException):
    """Raised by the signal. It does not leave a step: at the step's end it becomes a BoundError."""


class BoundError(UserError):
    """A step that takes too much time or memory."""

    def __init__(self, what: str, place: str = "", key: str = "", item: int | None = None) -> None:
        super().__init__(Problem(place or "a template or pattern", key, what, FIX))
        self.what, self.place, self.key = what, place, key
        self.item = item
        "The index of the text in work, from 0."


class Step:
    """A block of work within the bounds: `with step: ...`, which can be entered again and again."""

    def __init__(self, memory: int, seconds: float) -> None:
        self._memory, self._seconds = memory, seconds
        self._limits = resource.getrlimit(resource.RLIMIT_AS)
        self._process = psutil.Process()
        self._watched = Watched.here()
        self._watched.note_key("")
        self._count = self._seen = 0
        self._began = self._last = time.process_time()
        self._running = self._fired = False
        self._place, self._key = "", ""
        self.item: int | None = None

    def name(self, place: str) -> None:
        """Set the file and row of the next steps."""
        self._place = place
        self._watched.note_place(place)

    def at(self, place: str = "", key: str = "", item: int | None = None) -> "Step":
        """This step, for messages: `place` is the file and the row, `key` and `item` are as in BoundError."""
        if place:
            self.name(place)
        if key != self._key:
            self._key = key
            self._watched.note_key(key)
        self.item = item
        return self

    def __enter__(self) -> None:
        if self._count % STEPS == 0:
            _allow(self._process, self._memory, self._limits)
        self._count += 1
        self._watched.begin()
        self._running, self._fired = True, False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._running = False
        self._watched.end()
        if isinstance(error, TooLong) or (error is None and self._fired):
            raise self.error(self._too_long()) from error
        if isinstance(error, MemoryError):
            raise self.error(TOO_MUCH) from error
        if isinstance(error, BoundError) and not error.key:
            raise self.error(error.what) from error

    def evaluates(self, key: str) -> bool:
        """Whether this is the setting that it evaluates now."""
        return key == self._key

    def error(self, what: str) -> BoundError:
        """An error of this step, with its place and key."""
        return BoundError(what, self._place, self._key, self.item)

    @property
    def is_running(self) -> bool:
        """Whether this process is within the step."""
        return self._running

    def go_on(self) -> None:
        """Let the step go on for a moment after its overrun was handled."""
        self._fired = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """End the running step if it has run too long: it began after the last signal before it."""
        now = time.process_time()
        if self._seen != self._count:
            self._seen, self._began = self._count, self._last
        self._last = now
        if self._running and now - self._began > self._seconds * (1 + 1 / TICKS):
            self._fired = True
            raise TooLong(self._too_long())

    def _too_long(self) -> str:
        return f"it took longer than {self._seconds:g} s"


TOO_MUCH = "it took too much memory"
_current: list[Step] = []
"The steps whose blocks this process is in, innermost last."


@contextmanager
def bounded_steps(seconds: float = SECONDS) -> Iterator[Step]:
    """Steps that raise a BoundError beyond these bounds.

    A signal bounds the time in the main thread only, which is the only one that signals reach; in other threads the
    watching process does.
    """
    step = Step(MEMORY_BYTES, seconds)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    timed = threading.current_thread() is threading.main_thread()
    if timed:
        before = signal.signal(signal.SIGPROF, step.on_signal)
        signal.siginterrupt(signal.SIGPROF, False)
        timer = signal.setitimer(signal.ITIMER_PROF, seconds / TICKS, seconds / TICKS)
        _current.append(step)
    try:
        yield step
    except TooLong as error:  # it came just as a step was ending
        raise step.error(str(error)) from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        if timed:
            _current.remove(step)
            signal.setitimer(signal.ITIMER_PROF, *timer)
            signal.signal(signal.SIGPROF, before)


def bounded(key: str, item: int | None = None) -> AbstractContextManager[object]:
    """A step of the enclosing block of steps, or one by itself. Within a running step, it is a part of that."""
    if not _current or threading.current_thread() is not threading.main_thread():
        return _alone(key, item)
    step = _current[-1].at("", key, item)
    return nullcontext() if step.is_running else step


@contextmanager
def _alone(key: str, item: int | None) -> Iterator[None]:
    with bounded_steps() as step, step.at("", key, item):
        yield


def note_key(key: str) -> None:
    """Set the setting that the step evaluates from now on."""
    if _current and not (step := _current[-1]).evaluates(key):
        step.at("", key, step.item)


def stopped(error: BaseException) -> str:
    """The reason why a step was stopped, for code that handles it within the step."""
    if isinstance(error, TooLong) and _current:
        _current[-1].go_on()
    return TOO_MUCH if isinstance(error, MemoryError) else str(error)


def _allow(process: psutil.Process, memory: int, limits: tuple[int, int]) -> None:
    """Let this process grow by `memory` bytes, but not beyond its earlier limits."""
    size = process.memory_info().vms
    bounds = [bound for bound in limits if bound != resource.RLIM_INFINITY]
    try:
        resource.setrlimit(resource.RLIMIT_AS, (min([size + memory, *bounds]), limits[1]))
    except (OSError, ValueError):
        if sys.platform == "linux":
            raise  # elsewhere, only time is bounded: macOS knows no such limit
