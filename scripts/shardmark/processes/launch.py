"""Start a fork server (forkserver.py), without what it imports itself."""

import _socket
import fcntl
import subprocess
import sys
import time
from pathlib import Path

from shardmark.installation import SCRIPTS
from shardmark.processes.places import connected
from shardmark.processes.sockets import run_folder

SERVER = Path(SCRIPTS) / "forkserver.py"
STARTING = ".start"
"The suffix of the lock beside a socket that a process holds while it starts the server."


def start_server(path: str, owner: int, variables: dict[bytes, bytes]) -> _socket.socket | None:
    """A connection to the fork server at a socket, which is started if it is not running; None if that fails."""
    try:
        run_folder(owner)
        with open(f"{path}{STARTING}", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # if many want one at once, only one starts it
            if connection := connected(path):
                return connection
            process = launch_server(path, owner, variables)
            while process.poll() is None:
                if connection := connected(path):
                    return connection
                time.sleep(0.005)
    except Exception:  # for instance no processes or files left; the command works without it
        return None
    return connected(path)


def launch_server(path: str, owner: int, variables: dict[bytes, bytes]) -> subprocess.Popen[bytes]:
    """Start the fork server at a socket; it ends at once if there is one already. Raises OSError if that fails."""
    return subprocess.Popen(
        [sys.executable, str(SERVER), "--socket", path, "--owner", str(owner)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # a failure there also happens in the command, and is reported there
        start_new_session=True,
        env=variables,
    )
