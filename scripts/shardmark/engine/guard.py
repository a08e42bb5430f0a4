"""A process beside each worker that kills it if it outlives its run.

A worker sees the end of its run by itself, but not while it is stopped (SIGSTOP, a debugger, a frozen container).
"""

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from shardmark.engine.worker_sockets import started

GUARD = Path(__file__).resolve().parents[2] / "guard.py"
GRACE_SECONDS = 3.0
"How long a worker may take to end by itself."
POLL_SECONDS = 1.0
"How often to look whether a process has ended, where the kernel does not tell."


def set_guard(owner: int, start: str) -> None:
    """Start a guard of this process, whose run is the process `owner` that began at `start`."""
    me = f"{os.getpid()}-{started(os.getpid())}"
    subprocess.Popen(
        [sys.executable, str(GUARD), "--worker", me, "--owner", f"{owner}-{start}"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # what is sent to the worker's process group is not for its guard
    )


def guard(worker: str, owner: str) -> None:
    """Wait until one of two processes, each named PID-TICKS, has ended; the worker is then killed if it is left."""
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
            with suppress(AttributeError, OSError):  # it is gone, or the kernel or Python is too old
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
