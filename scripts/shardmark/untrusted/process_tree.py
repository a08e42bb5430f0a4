"""Resources used by a process and all its descendants, seen from outside.

The kernel's limits apply to single processes. In a PID namespace, a process whose parent ends becomes a child of the
first one, so that none leaves the tree.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """Resources used by a tree of processes."""

    seconds: float = 0.0
    "Computing time so far."
    memory: int = 0
    "Bytes in memory now; memory shared between processes counts for each."
    waiting: float = 0.0
    "Seconds that processes spent waiting for a free CPU."


class ProcessTree:
    """A process and its descendants."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._seen: dict[tuple[int, str], float] = {}
        "The computing time of each process so far, including those that have ended."

    def usage(self) -> Usage:
        """The resources used so far.

        Misses the time of processes that nobody waits for if they live too briefly to be seen.
        """
        together, memory, waiting = 0.0, 0, 0.0
        for pid in descendants(self.pid):
            with suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
                with open(f"/proc/{pid}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
                own, reaped = (sum(map(int, fields[first : first + 2])) / TICKS for first in (11, 13))
                self._seen[pid, fields[19].decode()] = own
                together += own + reaped
                memory += int(fields[21]) * PAGE
                with open(f"/proc/{pid}/schedstat", "rb") as file:
                    waiting += int(file.read().split()[1]) / 1e9
        return Usage(max(together, sum(self._seen.values())), memory, waiting)


def descendants(pid: int) -> Iterator[int]:
    """A process and all its descendants, as far as the kernel lists them."""
    yield pid
    with suppress(OSError, ValueError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                children = [int(child) for child in file.read().split()]
            for child in children:
                yield from descendants(child)
