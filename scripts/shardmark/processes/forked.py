"""The client side of a fork server: run a command in a process whose imports are done.

A job's own Python then starts in hundredths of a second. If the server cannot run the command for any reason, this
process becomes the command itself, as if there were no server. It imports next to nothing, because it is started for
every job.
"""

import _signal  # type: ignore[import-not-found]  # importing `signal` and `socket` takes longer than everything here
import _socket
import os
import sys

from shardmark.installation import SCRIPTS
from shardmark.processes.places import connected, private_place, started

TYPE_CHECKING = False  # importing typing takes as long, too
if TYPE_CHECKING:
    from typing import NoReturn

FORKS = ".forks"
"The suffix of the sockets of fork servers."
DETACHED = "worker"
"The prefix of kinds whose commands outlive their client; they notice by themselves when their run is over."
WORKERS = {"transformers": f"{DETACHED}-transformers", "openai": f"{DETACHED}-openai"}
"The kinds of forked workers, by the backend of their model; workers of other backends start by themselves."
OWN_CODE = f"{WORKERS['transformers']}-own-code"
"The kind of those whose model comes with Python code, and may need any part of transformers."
USE = "SHARDMARK_FORKS"
"The variable that forbids forks (off), or makes their absence an error (required)."
FRAME = 8
"Bytes for the length of a message, a process id, or an exit status."
SCM_RIGHTS = 1
ANSWER_SECONDS = 60.0
"The most seconds that a server's imports may take."


def server_socket(owner: int, kind: str) -> str:
    """The socket of the fork server of a kind, for the run whose process is `owner`."""
    return f"{private_place()}/{owner}-{started(owner)}/{kind}{FORKS}"


def run_forked(owner: int, kind: str, command: str, words: list[str], start: bool = True) -> "NoReturn":
    """Run a command of scripts/ as a fork of the run's server of a kind, and end as the command ends.

    Without `start`, a server is used only if there is one: for commands that would import less than half of what a new
    server imports.
    """
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # an interrupt needs no traceback: the command gets it, too
    path = server_socket(owner, kind)
    there = start or os.path.exists(path)
    fork = ask_for_fork(path, owner, command, words, dict(os.environb), (0, 1, 2)) if there else None
    status = fork.wait() if fork else None
    if status is None and start and os.environ.get(USE) == "required":
        sys.exit(f"{command}: not forked, although {USE} is required")
    if status is None:
        os.execv(sys.executable, [sys.executable, os.path.join(SCRIPTS, command), *words])
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != _signal.SIGKILL:
            _signal.signal(os.WTERMSIG(status), _signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


class Fork:
    """A command that a server has forked for this process."""

    def __init__(self, connection: "_socket.socket", pid: int) -> None:
        self.connection = connection
        self.pid = pid

    def wait(self) -> int | None:
        """The command's status, as returned by os.wait; None if the server died first."""
        try:
            answer = self.connection.recv(FRAME)
        except OSError:
            return None
        return int.from_bytes(answer, "big") if answer else None

    def poll(self) -> int | None:
        """The exit code, or minus the signal, that the command ended with; None while it runs."""
        self.connection.setblocking(False)
        try:
            answer = self.connection.recv(FRAME)
        except BlockingIOError:
            return None
        except OSError:
            answer = b""
        return os.waitstatus_to_exitcode(int.from_bytes(answer, "big")) if answer else -9

    def kill(self) -> None:
        """Kill the command."""
        os.kill(self.pid, 9)


def ask_for_fork(
    path: str,
    owner: int,
    command: str,
    words: list[str],
    variables: dict[bytes, bytes],
    files: tuple[int, ...],
) -> Fork | None:
    """Ask the server at a socket to run a command, and start the server if necessary; None if this fails.

    `files` become the command's standard input, output and error.
    """
    if os.environ.get(USE) == "off":
        return None
    connection = connected(path)
    if connection is None:
        from shardmark.processes.launch import start_server

        connection = start_server(path, owner, variables)
    if connection is None:
        return None
    try:
        connection.settimeout(ANSWER_SECONDS)
        wanted = _message(command, words, variables)
        numbers = b"".join(number.to_bytes(4, sys.byteorder) for number in files)
        sent = connection.sendmsg([wanted], [(_socket.SOL_SOCKET, SCM_RIGHTS, numbers)])
        if sent < len(wanted):  # nothing at all would be an error if the server had answered and gone already
            connection.sendall(wanted[sent:])
        answer = connection.recv(FRAME)
        connection.settimeout(None)
    except OSError:
        return None
    return Fork(connection, int.from_bytes(answer, "big")) if answer else None


def _message(command: str, words: list[str], variables: dict[bytes, bytes]) -> bytes:
    """The request to run a command: folder, command, arguments and variables."""
    parts = [os.getcwd(), command, str(len(words)), *words]
    payload = b"\0".join([*map(os.fsencode, parts), *(name + b"=" + value for name, value in variables.items())])
    return len(payload).to_bytes(FRAME, "big") + payload
