"""A process beside each worker that kills it if it outlives its run.

A worker notices the end of its run by itself, but not while it is stopped (SIGSTOP, a debugger, a frozen container).
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from shardmark.installation import SCRIPTS
from shardmark.processes.places import started
from shardmark.processes.sockets import forget

GUARD = Path(SCRIPTS) / "guard.py"
GRACE_SECONDS = 3.0
"The most seconds that a worker may take to end by itself."
POLL_SECONDS = 1.0
"Seconds between checks whether a process has ended, if the kernel does not tell."


def end_with(owner: int, path: Path) -> None:
    """End this process when the process `owner` ends, even in the middle of a computation or while it is stopped."""
    start = path.parent.name.rpartition("-")[2]
    try:
        handle = os.pidfd_open(owner)
    except (AttributeError, OSError):  # the process is gone, or the kernel or Python is too old
        handle = None
    if started(owner) != start:  # checked now: until the handle is open, another process may get the same id
        os._exit(0)
    set_guard(owner, start)

    def watch() -> None:
        if handle is None:
            while started(owner) == start:
                time.sleep(POLL_SECONDS)
        else:
            select.select([handle], [], [])
        forget(path)
        with suppress(OSError):  # the last worker removes it
            path.parent.rmdir()
        os.kill(os.getpid(), signal.SIGKILL)  # a library's thread may hold up an orderly end

    threading.Thread(target=watch, daemon=True).start()


def set_guard(owner: int, start: str) -> None:
    """Start a guard for this process, whose run is the process `owner` that began at `start`."""
    me = f"{os.getpid()}-{started(os.getpid())}"
    subprocess.Popen(
        [sys.executable, str(GUARD), "--worker", me, "--owner", f"{owner}-{start}"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # signals to the worker's process group are not for its guard
    )


def guard(worker: str, owner: str) -> None:
    """Wait until one of two processes, each named PID-TICKS, has ended; if it is the owner, kill the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _first_to_end([worker, owner]) == owner and _first_to_end([worker], GRACE_SECONDS) is None:
        pid, _, start = worker.partition("-")
        if started(int(pid)) == start:
            os.kill(int(pid), signal.SIGKILL)


def _first_to_end(processes: list[str], seconds: float | None = None) -> str | None:
    """The process that ends first; None if none does within `seconds`."""
    deadline = None if seconds is None else time.monotonic() + seconds
    with ExitStack() as opened:
        handles = {}
        for name in processes:
            with suppress(AttributeError, OSError):  # the process is gone, or the kernel or Python is too old
                handle = os.pidfd_open(int(name.partition("-")[0]))
                opened.callback(os.close, handle)
                handles[handle] = name
        told = len(handles) == len(processes)
        while True:
            for name in processes:
                pid, _, start = name.partition("-")
                if started(int(pid)) != start:
                    return name
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            pauses = [pause for pause in (left, None if told else POLL_SECONDS) if pause is not None]
            select.select(list(handles), [], [], min(pauses, default=None))
