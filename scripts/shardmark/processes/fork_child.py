"""A process that a fork server has forked: it runs one command after the other."""

import ctypes
import gc
import logging
import os
import pkgutil
import resource
import runpy
import signal
import socket
import sys
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from shardmark.installation import SCRIPTS
from shardmark.processes.forked import FRAME

MESSAGE_SECONDS = 30.0
"The most seconds that a client may take to send its request."
LONGEST = 8 << 20
"The most bytes of a request for a command: its arguments and variables."
UNLIKE = {b"_", b"PWD", b"OLDPWD", b"SHLVL", b"TMPDIR", b"TMP", b"TEMP", b"TEMPDIR"}
"Variables that may differ between jobs, because no library reads them when it is imported."
PR_SET_PDEATHSIG = 1
OURS = "shardmark."
"The prefix of modules that a server may import because a command did."
DONE, ENDS, TOLD = b"d", b"e", 4096
"A child's report on its command, before the names of the modules that the command imported: ready for another, or not."
WORN = 2 << 20
"KiB of memory after which a child is not used again."


@dataclass(frozen=True)
class Command:
    """A client's request for a command."""

    folder: str
    name: str
    words: list[str]
    variables: dict[bytes, bytes]

    @classmethod
    def of(cls, payload: bytes) -> "Command":
        """The command in a message. Raises ValueError if the message is not one."""
        folder, name, count, *parts = payload.split(b"\0")
        words, variables = parts[: int(count)], parts[int(count) :]
        if Path(os.fsdecode(name)).name != os.fsdecode(name):
            raise ValueError("it is not one of Shardmark's commands")
        pairs = (variable.partition(b"=") for variable in variables)
        return cls(os.fsdecode(folder), os.fsdecode(name), [*map(os.fsdecode, words)], {k: v for k, _, v in pairs})

    def fits(self, variables: dict[bytes, bytes]) -> bool:
        """Whether a process with these variables has imported the same as the command would have."""
        names = self.variables.keys() | variables.keys()
        return all(self.variables.get(name) == variables.get(name) for name in names - UNLIKE)

    def run(self, files: list[int]) -> int:
        """Run the command in this process, with these files as its input, output and error; returns its exit status."""
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        logging.getLogger().handlers.clear()
        warnings.simplefilter("default", append=True)  # so that warnings already shown are shown again
        tempfile.tempdir = None
        os.chdir(self.folder)
        for name in UNLIKE:
            os.environb.pop(name, None)
        os.environb.update(self.variables)
        sys.argv = [os.path.join(SCRIPTS, self.name), *self.words]
        try:
            return _status_of(sys.argv[0])
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()


def leave(connections: list[socket.socket]) -> None:
    """Give up the server's session, signals and connections."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for connection in connections:
        connection.close()


def run_commands(channel: socket.socket, payload: bytes, files: list[int], detached: bool, ahead: str) -> NoReturn:
    """Run a command, and those that come through the channel afterwards, in a process that was forked for it.

    Without one, call the function `ahead`, and run those that come.
    """
    status = 1
    try:
        if not detached:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if not payload:
            pkgutil.resolve_name(ahead)()
            payload = received(channel, files)
        while payload:
            before, environment = set(sys.modules), dict(os.environb)
            status = Command.of(payload).run(files)
            imported = [name for name in list(sys.modules) if name not in before]
            known = [name for name in imported if name.startswith(OURS)]
            is_worn = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > WORN
            again = not (detached or status or len(known) < len(imported) or is_worn)
            if again:
                _reset(environment)
            channel.sendall((DONE if again else ENDS) + "\n".join(known).encode()[: TOLD - 1])
            payload, files = b"", []
            if again:
                payload = received(channel, files)
    finally:
        os._exit(status)


def _reset(environment: dict[bytes, bytes]) -> None:
    """Release the files, folder, variables, log and modules of the last command."""
    for handler in logging.getLogger().handlers:
        handler.close()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    os.close(nothing)
    os.chdir("/")
    os.environb.clear()
    os.environb.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.collect()


def _status_of(script: str) -> int:
    """The exit status of a script that is run as Python would run it."""
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return int(end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def send(channel: socket.socket, payload: bytes, files: list[int]) -> None:
    """Pass on a message with open files. Raises OSError if nobody receives it."""
    channel.settimeout(MESSAGE_SECONDS)
    data = len(payload).to_bytes(FRAME, "big") + payload
    sent = socket.send_fds(channel, [data], files)
    if sent < len(data):  # nothing at all would be an error if the child had ended already
        channel.sendall(data[sent:])
    channel.setblocking(False)


def received(client: socket.socket, files: list[int]) -> bytes:
    """A message; the open files that come with it are added to `files`. Raises ValueError if it is invalid."""
    data, came, _, _ = socket.recv_fds(client, 1 << 16, 3)
    files += came
    length = int.from_bytes(data[:FRAME], "big") + FRAME
    while FRAME <= len(data) < length <= LONGEST and (more := client.recv(1 << 16)):
        data += more
    if len(data) != length or len(files) != 3:
        raise ValueError("it is truncated, or too long")
    return data[FRAME:]
