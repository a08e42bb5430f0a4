"""Bounds on time and memory for templates and patterns: a sandbox keeps them from harm, not from going on for ever.

Time is computing time of this process, so that a busy machine changes nothing. A signal ends a step that takes too
long, in the midst of Python's code and of its regular expressions. What it raises is no Exception: Jinja, and the code
of tasks, drop those. Some of Python's own work cannot be interrupted, such as comparing lists that hold each other; a
process beside this one (watcher.py) then says what took too long, and ends this one.
"""

import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType

from shardmark.errors import Problem, UserError
from shardmark.untrusted.watcher import Watched

MEMORY_BYTES = 2 << 30
"How much more memory than before it a step may take."
SECONDS = 10.0
"Seconds of computing time that a step may take."
TICKS = 10
"How often the signal comes within a step's time; it goes on after that: who drops what it raises gets it again."
STEPS = 256
"After how many steps the memory bound is set anew: asking the kernel for the size costs more than a step."


FIX = "correct the template or pattern: it grows, or goes on, without end"


class TooLong(BaseException):
    """Raised by the signal. It does not leave a step, whose end makes a BoundError of it."""


class BoundError(UserError):
    """A step that takes too much time or memory."""

    def __init__(self, what: str, place: str = "", key: str = "", item: int | None = None) -> None:
        super().__init__(Problem(place or "a template or pattern", key, what, FIX))
        self.what, self.place, self.key = what, place, key
        self.item = item
        "Which of the texts that are worked on, from 0."


class Step:
    """A block of work within the bounds: `with step: ...`, again and again."""

    def __init__(self, memory: int, seconds: float) -> None:
        self._memory, self._seconds = memory, seconds
        self._limits = resource.getrlimit(resource.RLIMIT_AS)
        self._watched = Watched.here()
        self._watched.note_key("")
        self._count = self._seen = 0
        self._began = self._last = time.process_time()
        self._running = self._fired = False
        self._place, self._key = "", ""
        self.item: int | None = None

    def name(self, place: str) -> None:
        """Say in which file and row the next steps are."""
        self._place = place
        self._watched.note_place(place)

    def at(self, place: str = "", key: str = "", item: int | None = None) -> "Step":
        """This step, for messages: `place` is the file and the row, `key` and `item` are those of BoundError."""
        if place:
            self.name(place)
        if key != self._key:
            self._key = key
            self._watched.note_key(key)
        self.item = item
        return self

    def __enter__(self) -> None:
        if self._count % STEPS == 0:
            _allow(self._memory, self._limits)
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

    def error(self, what: str) -> BoundError:
        """An error of this step, with its place and key."""
        return BoundError(what, self._place, self._key, self.item)

    @property
    def is_running(self) -> bool:
        """Whether this process is in the midst of it."""
        return self._running

    def go_on(self) -> None:
        """What took too long has been dealt with: the step goes on, for a moment."""
        self._fired = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """End the step that runs, if it has run for long: it began after the last signal that came before it."""
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
"The steps whose blocks this process is in, the innermost last."


@contextmanager
def bounded_steps(memory: int = MEMORY_BYTES, seconds: float = SECONDS) -> Iterator[Step]:
    """Steps that get a BoundError beyond these bounds.

    A signal bounds the time in the main thread only, which is the one that signals reach; in others the process beside
    this one does.
    """
    step = Step(memory, seconds)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    timed = threading.current_thread() is threading.main_thread()
    if timed:
        before = signal.signal(signal.SIGPROF, step.on_signal)
        signal.siginterrupt(signal.SIGPROF, False)
        timer = signal.setitimer(signal.ITIMER_PROF, seconds / TICKS, seconds / TICKS)
        _current.append(step)
    try:
        yield step
    except TooLong as error:  # it came in the midst of a step's end
        raise step.error(str(error)) from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        if timed:
            _current.remove(step)
            signal.setitimer(signal.ITIMER_PROF, *timer)
            signal.signal(signal.SIGPROF, before)


def bounded(key: str, item: int | None = None) -> AbstractContextManager[object]:
    """One step: of the block of steps that this process is in, or alone. Within a step, it is part of that."""
    if not _current or threading.current_thread() is not threading.main_thread():
        return _alone(key, item)
    step = _current[-1].at("", key, item)
    return nullcontext() if step.is_running else step


@contextmanager
def _alone(key: str, item: int | None) -> Iterator[None]:
    with bounded_steps() as step, step.at("", key, item):
        yield


def note_key(key: str) -> None:
    """Say what setting the step evaluates from now on."""
    if _current:
        _current[-1].at("", key, _current[-1].item)


def stopped(error: BaseException) -> str:
    """Why a step was stopped, where what stopped it is dealt with inside the step."""
    if isinstance(error, TooLong) and _current:
        _current[-1].go_on()
    return TOO_MUCH if isinstance(error, MemoryError) else str(error)


def _allow(memory: int, limits: tuple[int, int]) -> None:
    """Let this process grow by `memory` bytes, but not beyond the limits it had."""
    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    bounds = [bound for bound in limits if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([size + memory, *bounds]), limits[1]))
