"""Places where the processes of a run meet: folders for sockets, and the identities of processes.

It imports next to nothing, because each job's client imports it.
"""

import _socket
import os
import sys

GONE = "0"
LONGEST = 36
"The most characters of a folder for runs: the path of a socket in it, up to 71 more, must fit into 107."


def private_place(base: str = "") -> str:
    """This user's folder for sockets, which may not exist yet: below `base`, else below the first suitable folder."""
    return f"{base or _base()}/shardmark-{os.getuid()}"


def _base() -> str:
    """The first folder for temporary files that exists and has a short name."""
    for name in ("XDG_RUNTIME_DIR", "TMPDIR", "TEMP", "TMP"):
        base = os.environ.get(name, "")
        if 0 < len(base) <= LONGEST and os.access(base, os.W_OK):
            return base
    return "/tmp"


def started(pid: int) -> str:
    """The start of a process in the kernel's ticks, which identifies it together with its id; GONE if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            state, *fields = file.read().rpartition(")")[2].split()
    except OSError:
        return GONE
    return GONE if state in "ZX" else fields[18]


def connected(path: str) -> "_socket.socket | None":
    """A connection to the server at a socket that belongs to this user; None if there is none."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(path)
        peer = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    except OSError:
        connection.close()
        return None
    return connection if int.from_bytes(peer[4:8], sys.byteorder) == os.getuid() else None
