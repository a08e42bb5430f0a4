"""A process that has done the imports of a kind of job, and forks itself for each job.

Importing takes a score job or a worker seconds, scoring itself hundredths of one. The server runs only the commands of
scripts/ beside it, each as it would run by itself: with its arguments, variables, folder and open files. A server
belongs to one run, ends with it, and leaves when no client has come for a long time; a command ends with its client.

A fork copies each page that it touches, which takes longer than to score 200 samples. So a child whose command ended
well, and imported only modules of Shardmark, runs the next command as well.
"""

import ctypes
import fcntl
import gc
import importlib
import logging
import os
import pkgutil
import resource
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from shardmark.installation import SCRIPTS
from shardmark.processes.forked import DETACHED, FRAME, OWN_CODE, WORKERS
from shardmark.processes.guard import end_with
from shardmark.processes.imports import without_collection
from shardmark.processes.launch import STARTING
from shardmark.processes.sockets import check_peer

IDLE_SECONDS = 300.0
MESSAGE_SECONDS = 30.0
"The most seconds that a client may take to send its request."
GRACE_SECONDS = 5.0
"The most seconds that a command may take to end after its client has gone."
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
KINDS = {
    "score": ("shardmark.scoring.score:warm_up", "shardmark.report.build:warm_up"),
    WORKERS["transformers"]: (
        "shardmark.engine.worker",
        "shardmark.engine.transformers.light_imports:import_light",
        "shardmark.engine.transformers.model",
    ),
    OWN_CODE: (
        "shardmark.engine.worker",
        "shardmark.engine.transformers.model",
        "transformers.generation.utils",
    ),
    WORKERS["openai"]: ("shardmark.engine.worker", "shardmark.engine.endpoints.backend"),
}
"The modules that a server imports, or functions that it imports and calls, before it forks."
AHEAD = {"score": "shardmark.report.build:begin_drawing"}
"A function that the first child calls before it has a command, for what a fork does not inherit."


@dataclass
class _Child:
    """A forked process that runs a command or waits for one."""

    client: socket.socket | None
    "The client that waits for its command; None while it has none."
    channel: socket.socket
    "The socket on which it reports on its command, and gets another."
    killed_at: float | None = None
    "The time at which it is killed, because its client is gone."


@dataclass
class ForkServer:
    """Serves the clients of a socket, whose commands run in child processes."""

    listener: socket.socket
    detached: bool
    variables: dict[bytes, bytes]
    "The environment variables that this process was started with."
    ahead: str = ""
    "The function that the first child calls."
    children: dict[int, _Child] = field(default_factory=dict)
    chosen: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)
    left: float = field(default_factory=time.monotonic)
    "The time at which the last client came or went."

    def serve(self) -> None:
        """Fork for each client until none has come for a long time."""
        wake, woken = os.pipe()
        for end in (wake, woken):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.chosen.register(wake, selectors.EVENT_READ)
        self.chosen.register(self.listener, selectors.EVENT_READ)
        if self.ahead:
            self._fork()
        while (self._busy() and not self.detached) or time.monotonic() < self.left + IDLE_SECONDS:
            gc.freeze()  # keeps pages with existing objects shared
            for key, _ in self.chosen.select(GRACE_SECONDS):
                if key.fileobj is self.listener:
                    self._welcome(self.listener.accept()[0])
                elif key.fileobj == wake:
                    os.read(wake, 1 << 10)
                elif (child := self.children.get(key.data)) and key.fileobj is child.channel:
                    self._finish(key.data)
                elif child:  # clients send nothing more, so this one is gone
                    self._abandon(key.data)
            self._reap()
            self._kill_abandoned()

    def _busy(self) -> bool:
        """Whether any command is running."""
        return any(child.client for child in self.children.values())

    def _welcome(self, client: socket.socket) -> None:
        """Run a client's command. If its connection ends without an answer, the client runs the command itself."""
        files: list[int] = []
        try:
            client.settimeout(MESSAGE_SECONDS)
            check_peer(client)
            payload = _received(client, files)
            if _Command.of(payload).fits(self.variables) and not _is_gone(client):
                child = self._reused(payload, files) or self._fork(payload, files, client)
                self.children[child].client = client
                self.chosen.register(client, selectors.EVENT_READ, child)
                self.left = time.monotonic()
                with suppress(OSError):
                    client.sendall(child.to_bytes(FRAME, "big"))
                return
        except (OSError, ValueError):  # an invalid message, or no memory or process left
            pass
        finally:
            for number in files:
                os.close(number)
        client.close()

    def _reused(self, payload: bytes, files: list[int]) -> int | None:
        """A waiting child that has been given the command; None if there is none."""
        for number, child in self.children.items():
            if not child.client and not child.killed_at:
                with suppress(OSError):
                    _send(child.channel, payload, files)
                    return number
        return None

    def _fork(self, payload: bytes = b"", files: Sequence[int] = (), client: socket.socket | None = None) -> int:
        """A new child, with this client's command as its first; without one, it works ahead and waits."""
        ours, its = socket.socketpair()
        with its:
            child = os.fork()
            if not child:
                self.chosen.close()
                clients = [each for each in (client, *(child.client for child in self.children.values())) if each]
                _leave([self.listener, ours, *clients, *(each.channel for each in self.children.values())])
                _run_commands(its, payload, [*files], self.detached, self.ahead)
        ours.setblocking(False)
        self.children[child] = _Child(None, ours)
        self.chosen.register(ours, selectors.EVENT_READ, child)
        return child

    def _finish(self, number: int) -> None:
        """Read a child's report on its command. If the child is about to end, its client is told when it has ended."""
        child = self.children[number]
        try:
            told = child.channel.recv(TOLD)
        except OSError:
            told = b""
        if told[:1] != DONE:
            self.chosen.unregister(child.channel)
        elif client := child.client:
            child.client = None
            self._answer(client, 0)
        _learn(told[1:])

    def _reap(self) -> None:
        """Tell the clients of children that have ended their exit status."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if not (child := self.children.pop(ended[0], None)):
                    continue  # the guard
                with suppress(KeyError):
                    self.chosen.unregister(child.channel)
                child.channel.close()
                if child.client:
                    self._answer(child.client, ended[1])

    def _answer(self, client: socket.socket, status: int) -> None:
        with suppress(KeyError):
            self.chosen.unregister(client)
        with suppress(OSError), client:
            client.sendall(status.to_bytes(FRAME, "big"))
        self.left = time.monotonic()

    def _abandon(self, number: int) -> None:
        """Interrupt the command of a client that has gone."""
        child = self.children[number]
        if child.client:
            self.chosen.unregister(child.client)
        if not self.detached:
            child.killed_at = time.monotonic() + GRACE_SECONDS
            with suppress(OSError):
                os.killpg(number, signal.SIGINT)

    def _kill_abandoned(self) -> None:
        """Kill the commands that an interrupt has not ended."""
        for number, child in self.children.items():
            if child.killed_at and time.monotonic() > child.killed_at:
                with suppress(OSError):
                    os.killpg(number, signal.SIGKILL)


@dataclass(frozen=True)
class _Command:
    """A client's request for a command."""

    folder: str
    name: str
    words: list[str]
    variables: dict[bytes, bytes]

    @classmethod
    def of(cls, payload: bytes) -> "_Command":
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


def _leave(connections: list[socket.socket]) -> None:
    """Give up the server's session, signals and connections."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for connection in connections:
        connection.close()


def _run_commands(channel: socket.socket, payload: bytes, files: list[int], detached: bool, ahead: str) -> NoReturn:
    """Run a command, and those that come through the channel afterwards, in a process that was forked for it.

    Without one, call the function `ahead`, and run those that come.
    """
    status = 1
    try:
        if not detached:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if not payload:
            pkgutil.resolve_name(ahead)()
            payload = _received(channel, files)
        while payload:
            before, environment = set(sys.modules), dict(os.environb)
            status = _Command.of(payload).run(files)
            imported = [name for name in list(sys.modules) if name not in before]
            known = [name for name in imported if name.startswith(OURS)]
            is_worn = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > WORN
            again = not (detached or status or len(known) < len(imported) or is_worn)
            if again:
                _reset(environment)
            channel.sendall((DONE if again else ENDS) + "\n".join(known).encode()[: TOLD - 1])
            payload, files = b"", []
            if again:
                payload = _received(channel, files)
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


def _send(channel: socket.socket, payload: bytes, files: list[int]) -> None:
    """Pass on a message with open files. Raises OSError if nobody receives it."""
    channel.settimeout(MESSAGE_SECONDS)
    data = len(payload).to_bytes(FRAME, "big") + payload
    sent = socket.send_fds(channel, [data], files)
    if sent < len(data):  # nothing at all would be an error if the child had ended already
        channel.sendall(data[sent:])
    channel.setblocking(False)


def _received(client: socket.socket, files: list[int]) -> bytes:
    """A message; the open files that come with it are added to `files`. Raises ValueError if it is invalid."""
    data, came, _, _ = socket.recv_fds(client, 1 << 16, 3)
    files += came
    length = int.from_bytes(data[:FRAME], "big") + FRAME
    while FRAME <= len(data) < length <= LONGEST and (more := client.recv(1 << 16)):
        data += more
    if len(data) != length or len(files) != 3:
        raise ValueError("it is truncated, or too long")
    return data[FRAME:]


def _is_gone(client: socket.socket) -> bool:
    """Whether the client has gone."""
    client.setblocking(False)
    try:
        return not client.recv(1)
    except BlockingIOError:
        return False
    finally:
        client.setblocking(True)


def _learn(told: bytes) -> None:
    """Import the modules that a command had to import, so that the next one finds them."""
    for name in told.decode(errors="replace").split():
        with suppress(Exception):
            importlib.import_module(name)


def serve_forks(path: Path, owner: int) -> None:
    """Fork for the clients of the socket `path` until the process `owner` ends, unless another server does so."""
    with open(path.with_suffix(".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        path.unlink(missing_ok=True)  # left over from a server that was killed
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1024)
            Path(f"{path}{STARTING}").unlink(missing_ok=True)  # waiting processes now find the socket
            end_with(owner, path)
            kind, variables = kind_of(path), dict(os.environb)  # imports set some
            with without_collection():
                for name in KINDS.get(kind, ()):
                    found = pkgutil.resolve_name(name)
                    if callable(found):
                        found()
            ForkServer(listener, kind.startswith(DETACHED), variables, AHEAD.get(kind, "")).serve()
            path.unlink(missing_ok=True)


def kind_of(path: Path) -> str:
    """The kind that a server's socket is named after, without the number of threads that may follow."""
    kind, _, threads = path.stem.rpartition("-")
    return kind if threads.isdigit() else path.stem
