"""The process that paces requests to endpoints, for all jobs and runs of a results folder on this machine.

Each process that asks an endpoint keeps a connection to it, over which permits are requested, granted and returned; the
permits of a process that dies come back with its connection. The limiter is started by the first client that needs it,
holds the lock beside its socket, so that there is only one, and leaves after some seconds without clients. If it dies,
the remaining clients start another and tell it which permits they hold; the money that a run has spent is in a file of
that run. Nobody knows which other permits were granted before, so the new limiter, which finds a recently touched
socket, waits until the limits hold in any case.

Both sides send JSON objects, one per line:

    hello   the endpoint, the limits of the model's file, the run, its file and its max_cost; permits held already
    take    [number, tokens, cost] of requests that wait for a permit; the numbers are the client's
    drop    numbers of requests that no longer wait
    done    [number, outcome, seconds to wait, tokens, cost] of finished requests
    grant   (answer) numbers that may be sent
    note    (answer) a line for the log
    broke   (answer) [spent, limit, cost]: nothing more of this run is granted
"""

import asyncio
import fcntl
import json
import math
import os
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardmark.engine.endpoints.pace import GATHERING_SECONDS, Entry, Pace, Purse
from shardmark.files import read_object, write_whole
from shardmark.processes.sockets import LONGEST_LINE, check_peer

IDLE_SECONDS = 8.0
LIFE_SECONDS = 1.0
"Seconds between touches of the socket, which show how long this process has lived."
LEAST_WAIT, MOST_WAIT = 0.001, 3600.0
"The shortest and longest timer, in seconds."
LEDGER_DIGITS = 40
KEPT = ".json"
"The suffix of the file beside the socket: the knowledge of the last limiter about each endpoint."
BOOT = time.time() - time.monotonic()
"The time by the wall clock at which the monotonic clock began: the wall clock may be put back later."
Want = tuple[int, int, int]
"Number, tokens and cost of a request that waits for a permit."


def _now() -> float:
    """The time, which never goes back: requests would stop until it is what it was."""
    return BOOT + time.monotonic()


@dataclass(eq=False)
class Held:
    """A permit."""

    entry: Entry
    cost: int


@dataclass(eq=False)
class Guest:
    """A client of the limiter: one connection."""

    writer: asyncio.StreamWriter
    pace: Pace
    purse: Purse | None
    ledger: Path
    concurrency: int | None
    requests: float | None
    tokens: int | None
    wants: deque[Want] = field(default_factory=deque)
    held: dict[int, Held] = field(default_factory=dict)
    granted: list[int] = field(default_factory=list)
    "Permits that the client has not been told of yet."

    def tell(self, **message: Any) -> None:
        """Send a message; a client that does not read it is about to be gone."""
        self.writer.write(json.dumps(message).encode() + b"\n")


class Limiter:
    """Grants permits to its guests."""

    def __init__(self, kept: Path, blind_until: float = -math.inf) -> None:
        """`kept` is the last limiter's state file; `blind_until` is when it died, if it could not write that."""
        self._kept, self._blind_until = kept, blind_until
        self._paces = {name: _restored(facts, blind_until) for name, facts in read_object(kept).items()}
        self._purses: dict[Path, Purse] = {}
        self._guests: dict[int, deque[Guest]] = {}
        "The guests of each pace, in the order of their turns."
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self.left = time.monotonic()
        "The time at which the last guest left."

    @property
    def empty(self) -> bool:
        """Whether there are no guests."""
        return not any(self._guests.values())

    def keep(self) -> None:
        """Write down the state for the next limiter."""
        write_whole(self._kept, json.dumps({name: _facts(pace) for name, pace in self._paces.items()}))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until it ends."""
        guest: Guest | None = None
        try:
            check_peer(writer.get_extra_info("socket"))
            while line := await reader.readline():
                message = json.loads(line)
                if guest is None:
                    guest = self._welcome(message["hello"], writer)
                else:
                    self._hear(guest, message)
        except (OSError, ValueError, KeyError, TypeError, IndexError, asyncio.IncompleteReadError):
            pass  # a client that sends an invalid message is treated as gone
        finally:
            if guest:
                self._dismiss(guest)
            writer.close()

    def _welcome(self, hello: dict[str, Any], writer: asyncio.StreamWriter) -> Guest:
        pace = self._paces.setdefault(str(hello["endpoint"]), Pace(blind_until=self._blind_until))
        ledger, purse = Path(hello["ledger"]), None
        if hello["max_cost"] is not None:
            purse = self._purses.setdefault(ledger, Purse(int(hello["max_cost"]), spent=_ledger_total(ledger)))
        guest = Guest(
            writer, pace, purse, ledger, hello["concurrency"], hello["requests_per_minute"], hello["tokens_per_minute"]
        )
        for number, tokens, cost in hello["held"]:  # granted by an earlier limiter, which has counted the cost as spent
            guest.held[number] = Held(pace.grant(tokens, _now()), cost)
            if purse:
                purse.hold(cost)
                purse.spent -= cost
        self._guests.setdefault(id(pace), deque()).append(guest)
        self._agree(pace)
        if 2 * GATHERING_SECONDS < (seconds := pace.wait(0, _now())) < math.inf and pace.blind_until > 0:
            why = "the process that kept its limits died, and what else it had granted is unknown"
            guest.tell(note=f"pausing requests for {seconds:.0f} s: {why}")
        return guest

    def _agree(self, pace: Pace) -> None:
        """Apply the strictest of the limits that the current guests want."""
        guests = self._guests[id(pace)]
        wanted = ([getattr(guest, name) for guest in guests] for name in ("concurrency", "requests", "tokens"))
        if guests:
            pace.settings(*(min((v for v in values if v is not None), default=None) for values in wanted))

    def _hear(self, guest: Guest, message: dict[str, Any]) -> None:
        for number, outcome, after, tokens, cost in message.get("done", ()):
            self._settle(guest, int(number), str(outcome), float(after), int(tokens), int(cost))
        if dropped := set(message.get("drop", ())):
            guest.wants = deque(want for want in guest.wants if want[0] not in dropped)
            for number in dropped & guest.held.keys():  # granted meanwhile, and never sent
                self._settle(guest, number, "", 0.0, 0, 0)
        guest.wants.extend((int(n), int(t), int(c)) for n, t, c in message.get("take", ()))
        self._grant_all(guest)

    def _settle(self, guest: Guest, number: int, outcome: str, after: float, tokens: int, cost: int) -> None:
        held, now = guest.held.pop(number), _now()
        guest.pace.settle(held.entry, tokens)
        if guest.purse:
            guest.purse.settle(held.cost, cost)
            _write_ledger(guest.ledger, guest.purse)
        if outcome:
            guests = self._guests[id(guest.pace)]
            said = guest.pace.learn(outcome, after, any(each.wants for each in guests), now)
            for each in guests if said else ():
                each.tell(note=said)

    def _dismiss(self, guest: Guest) -> None:
        """Take back the permits of a guest that has left. It may have used them, so the worst case counts as spent."""
        self._guests[id(guest.pace)].remove(guest)
        for number, held in list(guest.held.items()):
            if guest.purse:
                guest.purse.spent += guest.purse.most(held.cost) - held.cost
            self._settle(guest, number, "", 0.0, held.entry.tokens, held.cost)
        self._agree(guest.pace)
        self._grant_all(guest)
        self.left = time.monotonic()

    def _grant_all(self, guest: Guest) -> None:
        """Grant all permits there is room for: at the guest's endpoint, and at others if its run has a budget."""
        paces = [guest.pace, *(each for each in self._paces.values() if each is not guest.pace and guest.purse)]
        for pace in paces:
            self._grant(pace)

    def _grant(self, pace: Pace) -> None:
        """Grant permits in turn until there is no room or no more are wanted."""
        guests = self._guests.get(id(pace), deque())
        if timer := self._timers.pop(id(pace), None):
            timer.cancel()
        told: list[Guest] = []
        skipped = 0
        while skipped < len(guests):
            guest = guests[0]
            guests.rotate(-1)
            if not guest.wants:
                skipped += 1
                continue
            number, tokens, cost = guest.wants[0]
            seconds = pace.wait(tokens, _now())
            if seconds > 0:
                guests.rotate(1)  # it keeps its turn
                self._later(pace, seconds)
                break
            paid = guest.purse.take(cost) if guest.purse else True
            if not paid:
                if paid is False and guest.purse:
                    guest.wants.clear()
                    guest.tell(broke=[guest.purse.spent, guest.purse.limit, guest.purse.most(cost)])
                skipped += 1
                continue
            skipped = 0
            guest.wants.popleft()
            guest.held[number] = Held(pace.grant(tokens, _now()), cost)
            guest.granted.append(number)
            told.append(guest)
        for guest in dict.fromkeys(told):
            if guest.purse:
                _write_ledger(guest.ledger, guest.purse)
            guest.tell(grant=guest.granted)
            guest.granted = []

    def _later(self, pace: Pace, seconds: float) -> None:
        if not math.isinf(seconds):
            seconds = min(max(seconds, LEAST_WAIT), MOST_WAIT)
            self._timers[id(pace)] = asyncio.get_running_loop().call_later(seconds, self._grant, pace)


def _write_ledger(path: Path, purse: Purse) -> None:
    """Write down a run's spending, with the worst case of requests in flight: a new limiter knows no better."""
    with suppress(OSError):  # the run is over and its folder is gone
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)  # not emptied first: a killed process must not forget
        try:
            os.pwrite(handle, b"%0*d\n" % (LEDGER_DIGITS, purse.spent + purse.most(purse.reserved, purse.in_flight)), 0)
        finally:
            os.close(handle)


def _ledger_total(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _facts(pace: Pace) -> dict[str, Any]:
    entries = [[entry.time, entry.tokens] for entry in pace.entries]
    names = ("limit", "limited", "next_request", "paused_until", "cooling_until")
    return {name: getattr(pace, name) for name in names} | {"entries": entries}


def _restored(facts: dict[str, Any], blind_until: float) -> Pace:
    """A pace as the last limiter left it. Its times are wall-clock times, so they soon lose their meaning."""
    try:
        entries = deque(Entry(float(when), int(tokens)) for when, tokens in facts.pop("entries"))
        if entries and entries[-1].time > _now():  # the wall clock was put back: these times mean nothing
            return Pace(blind_until=_now())
        used = sum(entry.tokens for entry in entries)
        return Pace(**facts, entries=entries, used=used, blind_until=blind_until)
    except (TypeError, ValueError, KeyError, AttributeError):
        return Pace(blind_until=blind_until)


def run_limiter(path: Path) -> None:
    """Serve at a socket until there are no clients, unless another process serves there already."""
    with open(path.with_suffix(".lock"), "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        asyncio.run(_run(path))


async def _run(path: Path) -> None:
    limiter = Limiter(path.with_suffix(KEPT), _death(path))
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(limiter.serve, path, limit=LONGEST_LINE)
    os.chmod(path, 0o600)
    while not limiter.empty or time.monotonic() - limiter.left < IDLE_SECONDS:
        await asyncio.sleep(LIFE_SECONDS)
        with suppress(OSError):  # the folder may be gone
            os.utime(path)
    path.unlink(missing_ok=True)
    server.close()
    limiter.keep()


def _death(path: Path) -> float:
    """The time at which the last limiter died, if it died unexpectedly and recently; else -inf."""
    try:
        touched = path.stat().st_mtime
    except OSError:
        return -math.inf
    died = min(touched + LIFE_SECONDS, time.time())
    return died if died > time.time() - MOST_WAIT else -math.inf
