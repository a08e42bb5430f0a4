"""The thin side of inference: hand a shard to a worker that holds the model, or to a new one.

It imports next to nothing, because it is started once for every shard.
"""

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from shardmark.engine.worker_sockets import (
    LOCK,
    LONGEST_LINE,
    SOCKET,
    ask_to_leave,
    check_peer,
    claimed,
    connect,
    forget,
    read_message,
    run_folder,
)
from shardmark.errors import Problem, UserError
from shardmark.files import digest
from shardmark.records.base import read_record
from shardmark.records.model_brief import ModelBrief

Show = Callable[[int, int], None]
"Told how many requests are done, of how many."

WORKER = Path(__file__).resolve().parents[2] / "worker.py"
TRIES = 2
"How many workers a shard is given to, one after the other, if they die."
SILENT_SECONDS = 60.0
"Seconds without a sign of life after which a worker is taken to hang."
START_SECONDS = 60.0
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"What a worker's glibc is told, unless the user tells it more: one pool, and what is large goes back to the system."
log = logging.getLogger(__name__)


class WorkerDied(Exception):
    """A worker is gone or hangs."""


class WorkerFailed(Exception):
    """A worker met an error that is not the user's; the text is its traceback."""


def infer_with_worker(
    model: Path, staged: Path, requests: Path, out: Path, threads: int, owner: int, logs: Path
) -> None:
    """Write the predictions of a shard's requests to `out`, with a worker of the run that the process `owner` is.

    `logs` is the folder for the logs of workers. A worker that dies or hangs is replaced once; what it had answered is
    kept. Raises UserError for what the user can fix, WorkerFailed for other errors.
    """
    record = read_record(model, ModelBrief)
    key = digest([model.read_text(), staged.read_text()])
    job = {"requests": str(requests.absolute()), "out": str(out.absolute()), "threads": threads}
    start = [str(model.absolute()), str(staged.absolute()), str(owner), str(logs.absolute())]
    for _ in range(TRIES):
        try:
            with _worker(run_folder(owner), key, record, start) as connection:
                connection.sendall(json.dumps(job).encode() + b"\n")
                _follow(connection, record.name)
                return
        except (WorkerDied, ConnectionError) as error:
            log.warning("the worker of model %s died: %s", record.name, error)
    what = f"the worker of model {record.name} died twice; memory may have run out"
    fix = f"see {logs} and the system's log; give the job more memory, or lower batch_size"
    raise UserError(Problem(record.file, "", what, fix))


@contextmanager
def _worker(folder: Path, key: str, record: ModelBrief, start: list[str]) -> Iterator[socket.socket]:
    """A connection to an idle worker that has this model, or to a new one."""
    with ExitStack() as held:
        for path in sorted(folder.glob(f"{key}-*{SOCKET}")):
            with ExitStack() as tried:
                if not tried.enter_context(claimed(path)):
                    continue
                with suppress(OSError):  # it has just left
                    connection = tried.enter_context(connect(path))
                    held.push(tried.pop_all())
                    break
        else:
            connection = held.enter_context(_new_worker(folder, key, record, start))
        path = Path(connection.getpeername())
        try:
            yield connection
        except (WorkerDied, ConnectionError):
            forget(path)  # what was killed just now may still take connections
            raise


@contextmanager
def _new_worker(folder: Path, key: str, record: ModelBrief, start: list[str]) -> Iterator[socket.socket]:
    if not record.settings.num_gpus:  # a GPU's holder is asked when the GPU is wanted; main memory has no lock
        for other in folder.glob(f"*{SOCKET}"):
            if not other.name.startswith(f"{key}-"):
                ask_to_leave(other)
    path = folder / f"{key}-{uuid.uuid4().hex[:8]}{SOCKET}"
    path.with_suffix(LOCK).touch()
    model, staged, owner, logs = start
    with claimed(path):
        name = Path(logs, f"{record.name}-{path.stem.rpartition('-')[2]}.log")
        name.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(WORKER), "--model", model, "--staged", staged, "--socket", str(path)]
        with open(name, "wb") as output:
            process = subprocess.Popen(
                [*command, "--owner", owner],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=ALLOCATOR | os.environ,
            )
        with _connected(path, process, name) as connection:
            yield connection


def _connected(path: Path, process: "subprocess.Popen[bytes]", name: Path) -> socket.socket:
    """A connection to a worker that is starting."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError, ConnectionRefusedError):
            return connect(path)
        if process.poll() is not None:
            raise WorkerDied(f"it ended with status {process.returncode}: {_tail(name)}")
        time.sleep(0.01)
    process.kill()
    raise WorkerDied(f"it did not start in {START_SECONDS:.0f} s")


def _tail(name: Path) -> str:
    with suppress(OSError):
        return name.read_text(errors="replace")[-500:].strip()
    return ""


def _follow(connection: socket.socket, name: str) -> None:
    """Wait for the end of the job, and report what the worker tells."""
    waiting = b""
    with _bar(name) as show:
        while True:
            if not select.select([connection], [], [], SILENT_SECONDS)[0]:
                with suppress(OSError):
                    os.kill(check_peer(connection), signal.SIGKILL)
                raise WorkerDied(f"it has given no sign of life for {SILENT_SECONDS:.0f} s")
            received = connection.recv(1 << 16)
            if not received:
                raise WorkerDied("its connection ended")
            *lines, waiting = (waiting + received).split(b"\n")
            if len(waiting) > LONGEST_LINE:
                raise WorkerDied(f"it sent a line of more than {LONGEST_LINE} bytes")
            for line in lines:
                if _heard(_message(line), show):
                    return


def _message(line: bytes) -> dict[str, Any]:
    try:
        return read_message(line)
    except ValueError as error:
        raise WorkerDied(f"it sent what is no message: {error}"[:200]) from error


def _heard(message: dict[str, Any], show: Show) -> bool:
    """Act on a message; whether it is the last one."""
    match message:
        case {"log": [int() as level, str() as name, str() as text]}:
            logging.getLogger(name).log(level, "%s", text)
        case {"done": int() as done, "total": int() as total}:
            show(done, total)
        case {"problems": [_, *_] as problems} if all(map(_is_problem, problems)):
            raise UserError(Problem(**problem) for problem in problems)
        case {"failed": str() as what, "traceback": str() as text}:
            log.error("%s", text)
            raise WorkerFailed(what)
        case {"alive": True}:
            pass
        case {"finished": True}:
            return True
        case _:
            raise WorkerDied(f"it sent what is no message: {str(message)[:100]}")
    return False


def _is_problem(problem: object) -> bool:
    names = {field.name for field in fields(Problem)}
    return (
        isinstance(problem, dict)
        and {"where", "key", "what"} <= problem.keys() <= names
        and all(isinstance(text, str) for text in problem.values())
    )


@contextmanager
def _bar(name: str) -> Iterator[Show]:
    """A function that shows progress, where there is somebody to see it."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from tqdm import tqdm

    with tqdm(desc=name, unit="request", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
