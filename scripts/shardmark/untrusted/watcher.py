"""A separate process that ends this one when a step takes far too long and cannot be interrupted.

Both share a piece of memory: the number of the running step (0 if none is), and its name. Run as a command, this file
is that process. Once a second it looks at the computing time of the other, and leaves when it has nothing to watch.
"""

import atexit
import logging
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import cache

SECONDS = 30.0
"Seconds of computing time in one step after which the process is ended; signals end a step well before if they can."
IDLE_SECONDS = 30.0
POLL_SECONDS = 1.0
NUMBER = struct.Struct("=Q")
PLACE, KEY, SIZE = 8, 768, 1024
"The offsets of the texts in the memory, after the number, and its end."


class Watched:
    """This process's side: the name of the step, and its beginning and end."""

    _here: "Watched | None" = None
    _starting = threading.Lock()

    def __init__(self) -> None:
        self._pid, self._steps = os.getpid(), 0
        self._memory = mmap.mmap(-1, SIZE)
        self._watcher: subprocess.Popen[bytes] | None = None

    @classmethod
    def here(cls) -> "Watched":
        """The side of this process, with its watcher if one can be started; without it, only signals bound steps."""
        with cls._starting:
            if cls._here is None or cls._here._pid != os.getpid():
                cls._here = cls()
            if cls._here._watcher is None or cls._here._watcher.poll() is not None:
                with suppress(OSError):
                    cls._here._start()
            return cls._here

    def _start(self) -> None:
        handle = _shared_memory()
        try:
            os.truncate(handle, SIZE)
            self._memory = mmap.mmap(handle, SIZE)
            loggers = logging.getLogger().handlers
            files = [handler.baseFilename for handler in loggers if isinstance(handler, logging.FileHandler)]
            self._watcher = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(handle), str(self._pid), str(SECONDS), *files],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[handle],
                start_new_session=True,
            )
        finally:
            os.close(handle)
        atexit.register(_end, self._watcher)

    def note_place(self, place: str) -> None:
        """Set the file and the row of the next step."""
        self._memory[PLACE:KEY] = place.encode(errors="replace")[: KEY - PLACE].ljust(KEY - PLACE, b"\0")

    def note_key(self, key: str) -> None:
        """Set the setting that is evaluated."""
        self._memory[KEY:SIZE] = _padded(key)

    def begin(self) -> None:
        """Note that a step begins."""
        self._steps += 1
        NUMBER.pack_into(self._memory, 0, self._steps)

    def end(self) -> None:
        """Note that the step has ended."""
        NUMBER.pack_into(self._memory, 0, 0)


def _shared_memory() -> int:
    """A file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("watched")
    import tempfile  # macOS has no file that is in memory only

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _end(watcher: "subprocess.Popen[bytes]") -> None:
    watcher.kill()
    with suppress(OSError), watcher:
        pass


def watch(memory: mmap.mmap, pid: int, seconds: float, files: list[str]) -> None:
    """Watch a process, the parent of this one, until it ends or has nothing to watch."""
    number, since, idle = 0, 0.0, time.monotonic()
    while not select.select([0], [], [], POLL_SECONDS)[0] and os.getppid() == pid:
        (found,) = NUMBER.unpack_from(memory, 0)
        spent = computing_seconds(pid)
        if found != number:
            number, since = found, spent
        elif found and spent - since > seconds:
            message = f"{_name(memory)}: it took longer than {seconds:g} s and could not be interrupted"
            _say(f"{message}; ending this process\n    fix: correct what is evaluated there, or the row\n", files)
            os.kill(pid, signal.SIGKILL)
            return
        if found:
            idle = time.monotonic()
        elif time.monotonic() - idle > IDLE_SECONDS:
            return


def _name(memory: mmap.mmap) -> str:
    parts = (part.rstrip(b"\0").decode(errors="replace") for part in (memory[PLACE:KEY], memory[KEY:SIZE]))
    return ": ".join(filter(None, parts)) or "a step of this process"


@cache
def _padded(key: str) -> bytes:
    return key.encode(errors="replace")[: SIZE - KEY].ljust(SIZE - KEY, b"\0")


def _say(message: str, files: list[str]) -> None:
    with suppress(OSError):
        os.write(2, message.encode())
    for path in files:
        with suppress(OSError), open(path, "a", encoding="utf-8") as file:
            file.write(message)


def computing_seconds(pid: int) -> float:
    """A process's computing time so far; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    watch(mmap.mmap(int(sys.argv[1]), SIZE), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
