"""The client's side of the limiter: a connection over which permits come."""

import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from shardmark.engine.endpoints.pace import OK
from shardmark.errors import Problem, UserError
from shardmark.files import digest
from shardmark.installation import SCRIPTS
from shardmark.processes.sockets import LONGEST_LINE, check_peer, shared_folder

LIMITER = Path(SCRIPTS) / "limiter.py"
START_SECONDS = 60.0
log = logging.getLogger(__name__)


class OutOfMoney(Exception):
    """The run has no money for another request."""

    def __init__(self, spent: int, limit: int, cost: int) -> None:
        super().__init__(f"{spent} of {limit} spent, {cost} wanted")
        self.spent, self.limit, self.cost = spent, limit, cost


class Terms(NamedTuple):
    """An endpoint, and the limits for asking it."""

    endpoint: str
    concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: int | None = None
    max_cost: int | None = None
    "In millionths of a millionth of the currency unit."
    ledger: str = ""
    "The file with the money the run has spent."


def socket_of(results: Path) -> Path:
    """The socket of the limiter of a results folder."""
    return shared_folder() / f"endpoints-{digest(str(results.resolve()))}.sock"


class Permits:
    """Permits for requests. All of its calls belong to one event loop."""

    def __init__(self, path: Path, terms: Terms) -> None:
        self._path, self._terms = path, terms
        self._waiting: dict[int, tuple[asyncio.Future[None], int, int]] = {}
        self._held: dict[int, tuple[int, int]] = {}
        self._returned: dict[int, tuple[int, int]] = {}
        "Returned permits of which the limiter has not been told."
        self._next = 0
        self._outbox: dict[str, list[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._broke: OutOfMoney | None = None

    async def take(self, tokens: int, cost: int) -> int:
        """Wait for a permit for a request of at most this many tokens and this cost. Raises OutOfMoney."""
        if self._broke:
            raise self._broke
        await self._ensure_connected()
        number, self._next = self._next, self._next + 1
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = (future, tokens, cost)
        self._send("take", [number, tokens, cost])
        try:
            await future
        except BaseException:
            self._waiting.pop(number, None)
            self._held.pop(number, None)
            self._send("drop", number)
            raise
        return number

    def settle(self, number: int, tokens: int, cost: int, outcome: str = OK, after: float = 0.0) -> None:
        """Return a permit with the outcome of its request."""
        self._returned[number] = self._held.pop(number)
        self._send("done", [number, outcome, after, tokens, cost])

    async def close(self) -> None:
        """Disconnect."""
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._writer:
            self._flush()
            self._writer.close()
        self._writer = self._reading = None

    def _send(self, kind: str, what: Any) -> None:
        """Queue a message: all messages of one turn of the event loop are sent together."""
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.setdefault(kind, []).append(what)

    def _flush(self) -> None:
        if self._writer and self._outbox:
            self._writer.write(json.dumps(self._outbox).encode() + b"\n")
            self._outbox, self._returned = {}, {}

    async def _ensure_connected(self) -> None:
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._stay())
        await asyncio.sleep(0)
        if self._reading.done():
            self._reading.result()  # raises the reason why the connection ended

    async def _stay(self) -> None:
        """Keep a connection, to a new limiter when one dies. If there is none, tasks stop waiting for permits."""
        try:
            await self._connections()
        except Exception as error:
            for future, _, _ in self._waiting.values():
                if not future.done():
                    future.set_exception(error)
            self._waiting.clear()
            raise

    async def _connections(self) -> None:
        while True:
            reader, writer = await self._connected()
            held = [[number, *facts] for number, facts in (self._held | self._returned).items()]
            hello = self._terms._asdict() | {"held": held}
            takes = [[number, tokens, cost] for number, (_, tokens, cost) in self._waiting.items()]
            self._outbox = {kind: what for kind, what in self._outbox.items() if kind == "done"}  # the rest is sent now
            writer.write(json.dumps({"hello": hello}).encode() + b"\n")
            writer.write(json.dumps({"take": takes}).encode() + b"\n")
            self._writer = writer
            self._flush()
            with suppress(OSError):
                while line := await reader.readline():
                    self._hear(json.loads(line))
            self._writer = None
            writer.close()
            log.warning("the process that paces endpoints is gone: another one replaces it")

    def _hear(self, message: dict[str, Any]) -> None:
        for number in message.get("grant", ()):
            if found := self._waiting.pop(number, None):
                future, tokens, cost = found
                self._held[number] = (tokens, cost)
                if not future.done():
                    future.set_result(None)
        if "note" in message:
            log.info("%s: %s", self._terms.endpoint, message["note"])
        if "broke" in message:
            self._broke = OutOfMoney(*message["broke"])
            for future, _, _ in self._waiting.values():
                if not future.done():
                    future.set_exception(self._broke)
            self._waiting.clear()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the limiter, which is started if there is none."""
        deadline, process = time.monotonic() + START_SECONDS, None
        with tempfile.TemporaryFile() as output:
            while True:
                with suppress(FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
                    reader, writer = await asyncio.open_unix_connection(self._path, limit=LONGEST_LINE)
                    check_peer(writer.get_extra_info("socket"))
                    return reader, writer
                if time.monotonic() > deadline:
                    raise _not_started(self._path, output)
                if process is None or process.poll() is not None:
                    process = _start(self._path, output)
                await asyncio.sleep(0.02)


def _not_started(path: Path, output: IO[bytes]) -> UserError:
    output.seek(0)
    said = output.read().decode(errors="replace").strip()[-500:]
    what = f"the process that paces endpoints did not start in {START_SECONDS:.0f} s: {said or 'without a message'}"
    return UserError(Problem(str(path), "", what, "find out why it does not start, then run again: answers are kept"))


def _start(path: Path, output: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, str(LIMITER), "--socket", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=output,
        start_new_session=True,  # it also serves other runs
        cwd="/",
    )
