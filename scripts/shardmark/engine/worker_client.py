"""The light side of inference: hand a shard to a worker that holds the model, or to a new one.

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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from shardmark.errors import Problem, UserError
from shardmark.files import digest
from shardmark.installation import SCRIPTS
from shardmark.processes.forked import OWN_CODE, WORKERS, ask_for_fork, server_socket
from shardmark.processes.sockets import (
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
from shardmark.records.model_brief import BriefEngine, ModelBrief

Show = Callable[[int, int], None]
"Called with the numbers of finished and of all requests."

WORKER = Path(SCRIPTS) / "worker.py"
TRIES = 2
"The most workers that a shard is given to, one after another, if they die."
SILENT_SECONDS = 60.0
"Seconds without a sign of life after which a worker is considered to hang."
START_SECONDS = 60.0
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(8 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
"""Settings of a worker's glibc, unless the user sets them: one arena, and large blocks go back to the system, but not
those as large as activations, whose pages would be made anew for each operator."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Start:
    """The settings that a worker is started with."""

    model: Path
    staged: Path
    owner: int
    logs: Path
    engine: BriefEngine
    threads: int
    forks: str
    "The kind of fork server to fork it from; empty for workers with GPUs, which torch may have seen before a fork."

    def command(self, path: Path) -> list[str]:
        """The command line of the worker that listens at a socket."""
        files = ["--model", str(self.model), "--staged", str(self.staged), "--socket", str(path)]
        engine = ["--engine", self.engine.name] if self.engine.name else []
        return [self.engine.python or sys.executable, str(WORKER), *files, "--owner", str(self.owner), *engine]

    def settings(self) -> dict[str, str]:
        """Its default environment, which the user's overrides. OpenMP reads it before anything is imported."""
        return {"OMP_NUM_THREADS": str(self.threads)} if self.engine.python else ALLOCATOR


def fork_kind(backend: str, num_gpus: int, trust_remote_code: bool) -> str:
    """The kind of fork server for the workers of a model; empty if they must not be forked."""
    kind = "" if num_gpus else WORKERS.get(backend, "")
    return OWN_CODE if trust_remote_code and kind == WORKERS["transformers"] else kind


class WorkerDied(Exception):
    """A worker has died or hangs."""


class WorkerFailed(Exception):
    """A worker met an error that is not the user's; the text is its traceback."""


def infer_with_worker(
    model: ModelBrief, staged: Path, requests: Path, out: Path, threads: int, owner: int, logs: Path
) -> None:
    """Write the predictions of a shard's requests to `out`, with a worker of the run whose process is `owner`.

    `logs` is the folder for the logs of workers. A worker that dies or hangs is replaced once; its answers so far are
    kept. Raises UserError for problems that the user can fix, WorkerFailed for other errors.
    """
    job: dict[str, Any] = {"requests": str(requests.absolute()), "out": str(out.absolute()), "threads": threads}
    identity = [model.text, staged.read_text()]
    for engine in _engines(model, requests):
        key = digest([*identity, engine.name] if engine.name else identity)
        kind = fork_kind(model.backend, model.num_gpus, model.trust_remote_code)
        forks = "" if engine.python else kind
        start = _Start(model.path.absolute(), staged.absolute(), owner, logs.absolute(), engine, threads, forks)
        job["before"] = _answered(key, model, start, job | {"kinds": engine.kinds})


def _engines(record: ModelBrief, requests: Path) -> list[BriefEngine]:
    """The engines of a model that a shard needs, in order; few models have several."""
    if len(record.engines) == 1:
        return record.engines
    with suppress(OSError, ValueError, LookupError), open(requests, "rb") as lines:
        kinds = {json.loads(line)["kind"] for line in lines}
        return [engine for engine in record.engines if kinds.intersection(engine.kinds or kinds)]
    return record.engines[:1]  # the engine will report the problem with the file


def _answered(key: str, record: ModelBrief, start: _Start, job: dict[str, Any]) -> Any:
    """Have a worker do a job, and replace it once if it dies; returns the worker's report."""
    for _ in range(TRIES):
        try:
            with _worker(run_folder(start.owner), key, record, start) as connection:  # raises if the run is over
                connection.sendall(json.dumps(job).encode() + b"\n")
                return _follow(connection, record.name)
        except (WorkerDied, ConnectionError) as error:
            log.warning("the worker of model %s died: %s", record.name, error)
    what = f"the worker of model {record.name} died twice; memory may have run out"
    fix = f"see {start.logs} and the system's log; give the job more memory, or lower batch_size"
    raise UserError(Problem(record.file, "", what, fix))


@contextmanager
def _worker(folder: Path, key: str, record: ModelBrief, start: _Start) -> Iterator[socket.socket]:
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
            forget(path)  # a process that was just killed may still accept connections
            raise


@contextmanager
def _new_worker(folder: Path, key: str, record: ModelBrief, start: _Start) -> Iterator[socket.socket]:
    if not record.num_gpus:  # GPU holders are asked when a GPU is needed; main memory has no lock
        for other in folder.glob(f"*{SOCKET}"):
            if not other.name.startswith(f"{key}-"):
                ask_to_leave(other)
    path = folder / f"{key}-{os.urandom(4).hex()}{SOCKET}"
    path.with_suffix(LOCK).touch()
    with claimed(path):
        name = start.logs / f"{record.name}-{path.stem.rpartition('-')[2]}.log"
        name.parent.mkdir(parents=True, exist_ok=True)
        with open(name, "wb") as output, open(os.devnull, "rb") as nothing:
            files = (nothing.fileno(), output.fileno(), output.fileno())
            process = (start.forks and _forked(start, path, files)) or _new_process(start, path, files)
        with _connected(path, process, name) as connection:
            yield connection


class _Process(Protocol):
    """A worker's process, whose exit status can be read."""

    def poll(self) -> int | None: ...

    def kill(self) -> None: ...


def _new_process(start: _Start, path: Path, files: tuple[int, int, int]) -> _Process:
    """A new worker process, which begins with its imports."""
    environment, (stdin, stdout, stderr) = start.settings() | os.environ, files
    return subprocess.Popen(
        start.command(path), stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True, env=environment
    )


def _forked(start: _Start, path: Path, files: tuple[int, int, int]) -> _Process | None:
    """A worker forked with its imports done; None if there is no fork server for it."""
    kind = f"{start.forks}-{start.threads}"  # OpenMP reads the number of threads when torch is imported
    variables = {os.fsencode(k): os.fsencode(v) for k, v in (start.settings() | os.environ).items()}
    _, script, *words = start.command(path)
    return ask_for_fork(server_socket(start.owner, kind), start.owner, Path(script).name, words, variables, files)


def _connected(path: Path, process: _Process, name: Path) -> socket.socket:
    """A connection to a worker that is starting."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError, ConnectionRefusedError):
            return connect(path)
        if (status := process.poll()) is not None:
            raise WorkerDied(f"it ended with status {status}: {_tail(name)}")
        time.sleep(0.01)
    process.kill()
    raise WorkerDied(f"it did not start in {START_SECONDS:.0f} s")


def _tail(name: Path) -> str:
    with suppress(OSError):
        return name.read_text(errors="replace")[-500:].strip()
    return ""


def _follow(connection: socket.socket, name: str) -> Any:
    """Wait for the end of the job, and pass on the worker's messages; returns its report."""
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
                message = _message(line)
                if _heard(message, show):
                    return message.get("made")


def _message(line: bytes) -> dict[str, Any]:
    try:
        return read_message(line)
    except ValueError as error:
        raise WorkerDied(f"it sent an invalid message: {error}"[:200]) from error


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
            raise WorkerDied(f"it sent an invalid message: {str(message)[:100]}")
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
    """A function that shows progress if there is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from tqdm import tqdm

    with tqdm(desc=name, unit="request", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
