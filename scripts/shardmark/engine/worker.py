"""A process that keeps a model loaded and answers shard after shard with it.

It serves one client at a time over its socket, in lines of JSON: a job comes in; progress, log lines and signs of life
go out; then `done`, or the problems. It leaves when it has been idle for a long time, when it is asked to, and at once
when the run is over, however that ended.
"""

import json
import logging
import os
import select
import signal
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shardmark.engine.infer import LoadedModel, answer_shard
from shardmark.engine.watchdog import Pulse
from shardmark.errors import UserError, disk_problem
from shardmark.processes.guard import end_with
from shardmark.processes.sockets import LOCK, LONGEST_LINE, check_peer, claimed, forget, read_message
from shardmark.records.base import convert, to_json
from shardmark.records.engine import VLLM
from shardmark.records.trailer import Made

IDLE_SECONDS = 300.0
ALIVE_SECONDS = 2.0
"Seconds between signs of life to the client."
log = logging.getLogger(__name__)


class Abandoned(Exception):
    """The client is gone."""


class Client:
    """The other end of a connection. A lost connection is noted, and raised at a point where the work can stop."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._writing = threading.Lock()
        self._gone = threading.Event()

    def send(self, **message: Any) -> None:
        """Send a message, or note that the client is gone."""
        try:
            with self._writing:
                self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._gone.set()

    @property
    def gone(self) -> bool:
        """Whether the client is gone."""
        return self._gone.is_set()

    def tell(self, done: int, total: int) -> None:
        """Report progress. Raises Abandoned if the client is gone."""
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
    """Forwards log lines of a job to its client, whose log they belong in."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)  # with the traceback, if there is one
        except Exception:  # a wrong log message of a library must not fail the job
            self.handleError(record)
        else:
            self._client.send(log=[record.levelno, record.name, text])


class Reception:
    """The queue of clients, served one after another."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._waiting: list[Client] = []

    def next(self, seconds: float) -> socket.socket | None:
        """The connection of the next client; None if none comes in time."""
        if self._waiting:
            return self._waiting.pop(0).connection
        return self._listener.accept()[0] if select.select([self._listener], [], [], seconds)[0] else None

    def reassure(self) -> None:
        """Tell waiting clients that this worker is alive, while it finishes a batch of a client that has died."""
        while select.select([self._listener], [], [], 0)[0]:
            self._waiting.append(Client(self._listener.accept()[0]))
        for client in self._waiting:
            client.send(alive=True)
        self._waiting = [client for client in self._waiting if not client.gone]


def serve(model: Path, staged: Path, path: Path, owner: int, engine: str = "") -> None:
    """Answer clients at the socket `path` until the process `owner` ends or no client has come for a long time.

    `engine` is the name of one of the model's engines, if it has several.
    """
    end_with(owner, path)
    logging.getLogger().setLevel(logging.INFO)  # the job's client has a log, even if this process has none
    loaded = LoadedModel(model, staged, holder=path, engine=engine, owner=owner)
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
    """Wait for a client; None if none has come for a long time."""
    while not (connection := reception.next(IDLE_SECONDS)):
        with claimed(path) as idle:  # a client that has claimed this worker is about to connect
            if idle or not path.with_suffix(LOCK).exists():
                forget(path)
                return None
    return connection


def _served(loaded: LoadedModel, connection: socket.socket, path: Path, reception: Reception) -> bool:
    """Do a client's job; whether to stay for the next one."""
    with suppress(OSError, ValueError):
        check_peer(connection)
        with connection.makefile("rb") as lines:
            job = read_message(lines.readline(LONGEST_LINE))
        client = Client(connection)
        end, stays = ({}, False) if job.get("leave") else _answered(loaded, client, job, reception)
        if not stays:
            forget(path)  # before the client hears of it and drops its claim, so that no other client comes
        if end:
            client.send(**end)
        return stays
    return True


def _answered(
    loaded: LoadedModel, client: Client, job: dict[str, Any], reception: Reception
) -> tuple[dict[str, Any], bool]:
    """Do a job; returns the last message to the client, and whether to stay for the next one."""
    try:
        with client.kept_informed(loaded.pulse, reception):
            before = convert(job["before"], Made) if job.get("before") else None
            files = (Path(job["requests"]), Path(job["out"]))
            made = answer_shard(loaded, *files, job["threads"], client.tell, job.get("kinds"), before)
    except Abandoned:
        log.warning("the client of %s is gone", job["out"])
        return {}, True
    except UserError as error:
        # after a failed load, a new process is needed if torch has looked at devices or vLLM has started
        stays = loaded.is_loaded or not (loaded.record.settings.num_gpus or loaded.engine == VLLM)
        return {"problems": [vars(problem) for problem in error.problems]}, stays
    except Exception as error:  # the state it leaves behind, such as a device's, cannot be trusted
        problem = disk_problem(error, job["out"]) if isinstance(error, OSError) else None
        if problem:
            return {"problems": [vars(problem)]}, True
        return {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}, False
    return {"finished": True, "made": to_json(made)}, True
