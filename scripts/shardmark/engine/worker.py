"""A process that keeps a model loaded and answers shard after shard with it.

It serves one client at a time over its socket, in lines of JSON: a job comes in; progress, log lines and signs of life
go out; then `done`, or the problems. It leaves when it has been idle for long, when it is asked to, and at once when
the run is over, however that ended.
"""

import json
import logging
import os
import select
import signal
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shardmark.engine.guard import set_guard
from shardmark.engine.infer import LoadedModel, answer_shard
from shardmark.engine.watchdog import Pulse
from shardmark.engine.worker_sockets import LOCK, LONGEST_LINE, check_peer, claimed, forget, read_message, started
from shardmark.errors import UserError, disk_problem

IDLE_SECONDS = 300.0
ALIVE_SECONDS = 2.0
"Seconds between signs of life to the client."
POLL_SECONDS = 1.0
"Seconds between looks at whether the run is over, where the kernel does not tell."
log = logging.getLogger(__name__)


class Abandoned(Exception):
    """The client is gone."""


class Client:
    """The other end of a connection. Its losing it is noted, and raised where the work can stop."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._writing = threading.Lock()
        self._gone = threading.Event()

    def send(self, **message: Any) -> None:
        """Send a message, or note that nobody is there."""
        try:
            with self._writing:
                self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._gone.set()

    @property
    def gone(self) -> bool:
        """Whether nobody is there any more."""
        return self._gone.is_set()

    def tell(self, done: int, total: int) -> None:
        """Report progress. Raises Abandoned if nobody is there."""
        self.send(done=done, total=total)
        if self.gone:
            raise Abandoned

    @contextmanager
    def kept_informed(self, pulse: Pulse, reception: "Reception") -> Iterator[None]:
        """A block during which signs of life and log lines are sent; if the work hangs, the process ends."""
        over, handler = threading.Event(), _Forwarded(self)
        pulse.start()

        def alive() -> None:
            while not over.wait(ALIVE_SECONDS):
                if fault := pulse.fault():
                    log.error("this worker hangs: %s", fault)
                    os.kill(os.getpid(), signal.SIGKILL)
                self.send(alive=True)
                if self.gone:
                    reception.reassure()

        thread = threading.Thread(target=alive, daemon=True)
        logging.getLogger().addHandler(handler)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            logging.getLogger().removeHandler(handler)


class _Forwarded(logging.Handler):
    """Log lines of a job go to its client, whose log they belong into."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)  # with the traceback, if there is one
        except Exception:  # a library's mistake in a message is no reason to fail
            self.handleError(record)
        else:
            self._client.send(log=[record.levelno, record.name, text])


class Reception:
    """Where clients come to, one to be served after the other."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._waiting: list[Client] = []

    def next(self, seconds: float) -> socket.socket | None:
        """The connection of the next client; None if none comes in time."""
        if self._waiting:
            return self._waiting.pop(0).connection
        return self._listener.accept()[0] if select.select([self._listener], [], [], seconds)[0] else None

    def reassure(self) -> None:
        """Tell those who come, while a batch of a client that has died is done, that this worker lives."""
        while select.select([self._listener], [], [], 0)[0]:
            self._waiting.append(Client(self._listener.accept()[0]))
        for client in self._waiting:
            client.send(alive=True)
        self._waiting = [client for client in self._waiting if not client.gone]


def serve(model: Path, staged: Path, path: Path, owner: int) -> None:
    """Answer the clients that come to the socket `path`, until the process `owner` ends or nobody has come for long."""
    _end_with(owner, path)
    logging.getLogger().setLevel(logging.INFO)  # a job's client has a log, even where this process has none
    loaded = LoadedModel(model, staged, holder=path)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            reception = Reception(listener)
            while connection := _awaited(reception, path):
                with connection:
                    if not _served(loaded, connection, path, reception):
                        os._exit(0)  # the connection ends with the process: its memory and devices are then free
    finally:
        forget(path)


def _awaited(reception: Reception, path: Path) -> socket.socket | None:
    """Wait for a client; None if none has come for long."""
    while not (connection := reception.next(IDLE_SECONDS)):
        with claimed(path) as idle:  # who has claimed this worker is about to come
            if idle or not path.with_suffix(LOCK).exists():
                forget(path)
                return None
    return connection


def _served(loaded: LoadedModel, connection: socket.socket, path: Path, reception: Reception) -> bool:
    """Do what a client wants; whether to stay for the next one."""
    with suppress(OSError, ValueError):
        check_peer(connection)
        with connection.makefile("rb") as lines:
            job = read_message(lines.readline(LONGEST_LINE))
        client = Client(connection)
        end, stays = ({}, False) if job.get("leave") else _answered(loaded, client, job, reception)
        if not stays:
            forget(path)  # before the client hears of it and drops its claim: nobody is to come any more
        if end:
            client.send(**end)
        return stays
    return True


def _answered(
    loaded: LoadedModel, client: Client, job: dict[str, Any], reception: Reception
) -> tuple[dict[str, Any], bool]:
    """Do a job; what to tell at its end, and whether to stay for the next one."""
    try:
        with client.kept_informed(loaded.pulse, reception):
            answer_shard(loaded, Path(job["requests"]), Path(job["out"]), job["threads"], client.tell)
    except Abandoned:
        log.warning("the client of %s is gone", job["out"])
        return {}, True
    except UserError as error:
        # torch does not look at the devices again: with others, after a load that failed, it must be a new process
        stays = bool(loaded.gpus) or not loaded.record.settings.num_gpus
        return {"problems": [vars(problem) for problem in error.problems]}, stays
    except Exception as error:  # what it leaves behind, a device for instance, is not to be trusted
        problem = disk_problem(error, job["out"]) if isinstance(error, OSError) else None
        if problem:
            return {"problems": [vars(problem)]}, True
        return {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}, False
    return {"finished": True}, True


def _end_with(owner: int, path: Path) -> None:
    """End this process as soon as another one ends, even in the middle of a computation or while it is stopped."""
    start = path.parent.name.rpartition("-")[2]
    try:
        handle = os.pidfd_open(owner)
    except (AttributeError, OSError):  # it is gone, or the kernel or Python is too old
        handle = None
    if started(owner) != start:  # now, because a number may be given to another process until the handle is open
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
