"""A process that has done the imports of a kind of job, and forks itself for each job.

Importing takes a score job or a worker seconds, scoring itself hundredths of one. The server runs only the commands of
scripts/ beside it, each as it would run by itself: with its arguments, variables, folder and open files. A server
belongs to one run, ends with it, and leaves when no client has come for a long time; a command ends with its client.

A fork copies each page that it touches, which takes longer than to score 200 samples. So a child whose command ended
well, and imported only modules of Shardmark, runs the next command as well.
"""

import fcntl
import gc
import importlib
import os
import pkgutil
import selectors
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from shardmark.processes.fork_child import DONE, MESSAGE_SECONDS, TOLD, Command, leave, received, run_commands, send
from shardmark.processes.forked import DETACHED, FRAME, OWN_CODE, WORKERS
from shardmark.processes.guard import end_with
from shardmark.processes.imports import without_collection
from shardmark.processes.launch import STARTING
from shardmark.processes.sockets import check_peer

IDLE_SECONDS = 300.0
GRACE_SECONDS = 5.0
"The most seconds that a command may take to end after its client has gone."
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
            payload = received(client, files)
            if Command.of(payload).fits(self.variables) and not _is_gone(client):
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
                    send(child.channel, payload, files)
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
                leave([self.listener, ours, *clients, *(each.channel for each in self.children.values())])
                run_commands(its, payload, [*files], self.detached, self.ahead)
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
