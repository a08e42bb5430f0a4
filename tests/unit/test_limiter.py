"""One process paces all jobs and runs that ask an endpoint, whoever of them dies, itself included."""

import asyncio
import json
import os
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from shardmark.engine.endpoints import limiter as limiters_module
from shardmark.engine.endpoints import permits
from shardmark.engine.endpoints.limiter import LEDGER_DIGITS, Limiter, _ledger_total, _write_ledger
from shardmark.engine.endpoints.pace import LIMITED, MINUTE, OK, Purse
from shardmark.engine.endpoints.permits import OutOfMoney, Permits, Terms, socket_of
from shardmark.errors import UserError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The socket of one limiter for all tests here."""
    return socket_of(tmp_path_factory.mktemp("results"))


class Gauge:
    """How many requests are in flight, over all jobs."""

    def __init__(self) -> None:
        self.now = self.most = self.done = 0
        self.times: list[float] = []

    async def request(self, permits: Permits, seconds: float = 0.005, cost: int = 0, outcome: str = OK) -> None:
        number = await permits.take(10, cost)
        self.times.append(time.monotonic())
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(seconds)
        self.now -= 1
        self.done += 1
        permits.settle(number, 10, cost, outcome)


async def asked(permits: list[Permits], gauge: Gauge, each: int, **more: Any) -> None:
    """Each of some jobs asks so many requests, all at once."""
    await asyncio.gather(*(gauge.request(one, **more) for one in permits for _ in range(each)))


async def closed(permits: list[Permits]) -> None:
    for one in permits:
        await one.close()


def limiters(path: Path) -> list[psutil.Process]:
    """The processes that serve at a socket."""
    every = psutil.process_iter(["cmdline"])
    return [process for process in every if str(path) in (process.info["cmdline"] or [])]


def terms(name: str, tmp_path: Path, run: int = 0, **more: Any) -> Terms:
    return Terms(endpoint=name, ledger=str(tmp_path / f"run-{run}"), **more)


def test_eight_jobs_of_two_runs_share_the_requests_in_flight(path: Path, tmp_path: Path) -> None:
    async def body() -> Gauge:
        jobs = [Permits(path, terms("eight", tmp_path, run=n % 2, concurrency=5)) for n in range(8)]
        gauge = Gauge()
        await asked(jobs, gauge, each=10)
        await closed(jobs)
        return gauge

    gauge = asyncio.run(body())
    assert (gauge.most, gauge.done) == (5, 80)
    deadline = time.monotonic() + 20
    while len(limiters(path)) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)  # those that came second are about to leave
    assert len(limiters(path)) == 1


def test_jobs_share_the_requests_of_a_minute_too(path: Path, tmp_path: Path) -> None:
    async def body() -> Gauge:
        jobs = [Permits(path, terms("minute", tmp_path, run=n % 2, requests_per_minute=6000)) for n in range(4)]
        gauge = Gauge()
        await asked(jobs, gauge, each=10)
        await closed(jobs)
        return gauge

    times = asyncio.run(body()).times
    assert times[-1] - times[0] >= 39 * 0.01 - 0.1


def test_no_job_waits_behind_all_requests_of_another(path: Path, tmp_path: Path) -> None:
    async def body() -> tuple[int, int]:
        large, small = (Permits(path, terms("fair", tmp_path, run=n, concurrency=2)) for n in range(2))
        before, after = Gauge(), Gauge()
        first = asyncio.ensure_future(asked([large], before, each=100))
        while before.done < 4:
            await asyncio.sleep(0.005)
        await asked([small], after, each=10)
        done = before.done
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await closed([large, small])
        return done, after.done

    done, small = asyncio.run(body())
    assert small == 10
    assert done < 50


def test_a_permit_comes_back_with_the_connection_of_who_held_it(path: Path, tmp_path: Path) -> None:
    async def body() -> None:
        dead, alive = (Permits(path, terms("dead", tmp_path, run=n, concurrency=1)) for n in range(2))
        await dead.take(10, 0)
        waiting = asyncio.ensure_future(alive.take(10, 0))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await dead.close()
        await asyncio.wait_for(waiting, 10)
        await alive.close()

    asyncio.run(body())


def test_who_waits_no_more_gets_no_permit(path: Path, tmp_path: Path) -> None:
    async def body() -> None:
        permits = Permits(path, terms("drop", tmp_path, concurrency=1))
        held = await permits.take(10, 0)
        waiting = [asyncio.ensure_future(permits.take(10, 0)) for _ in range(3)]
        await asyncio.sleep(0.05)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        permits.settle(held, 10, 0)
        await asyncio.wait_for(permits.take(10, 0), 10)
        await permits.close()

    asyncio.run(body())


def test_a_429_of_one_job_slows_all(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def body() -> Gauge:
        jobs = [Permits(path, terms("slow", tmp_path, run=n)) for n in range(2)]
        await asked(jobs[:1], Gauge(), each=1, outcome=LIMITED)
        gauge = Gauge()
        await asked(jobs, gauge, each=30)
        await closed(jobs)
        return gauge

    assert asyncio.run(body()).most == 16
    assert "16 requests at once instead of 20: too many requests (429)" in caplog.text


def test_the_money_of_a_run_is_one_for_all_its_jobs_and_endpoints(path: Path, tmp_path: Path) -> None:
    async def body() -> tuple[Gauge, list[Any], Gauge]:
        jobs = [Permits(path, terms(name, tmp_path, run=7, max_cost=100)) for name in ("a", "a", "b")]
        other = Permits(path, terms("a", tmp_path, run=8, max_cost=100))
        gauge, apart = Gauge(), Gauge()
        asks = [gauge.request(one, cost=10) for one in jobs for _ in range(10)]
        found = await asyncio.gather(*asks, return_exceptions=True)
        await asked([other], apart, each=10, cost=10)
        await closed([*jobs, other])
        return gauge, found, apart

    gauge, found, apart = asyncio.run(body())
    broke = [error for error in found if isinstance(error, OutOfMoney)]
    assert (gauge.done, len(broke), apart.done) == (10, 20, 10)
    assert {(error.spent, error.limit, error.cost) for error in broke} == {(100, 100, 10)}


def test_what_a_dead_job_may_have_spent_is_as_dear_as_the_dearest_request(path: Path, tmp_path: Path) -> None:
    async def body() -> Any:
        dead, alive = (Permits(path, terms("dear", tmp_path, run=6, max_cost=100)) for _ in range(2))
        number, _ = await dead.take(10, 10), await dead.take(10, 10)
        dead.settle(number, 10, 30)
        await asyncio.sleep(0.05)
        await dead.close()  # one of its requests is in flight
        held = await alive.take(10, 10)
        alive.settle(held, 10, 30)
        with pytest.raises(OutOfMoney) as caught:
            await alive.take(10, 10)
        await alive.close()
        return caught.value

    error = asyncio.run(body())
    assert (error.spent, error.cost) == (90, 30)


def kill_limiter(path: Path) -> None:
    (process,) = limiters(path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)


def test_another_takes_over_with_all_that_is_held_and_spent(path: Path, tmp_path: Path) -> None:
    async def body() -> tuple[Gauge, list[Any]]:
        jobs = [Permits(path, terms("heir", tmp_path, run=9, concurrency=4, max_cost=200)) for _ in range(2)]
        gauge = Gauge()
        asks = [asyncio.ensure_future(gauge.request(one, seconds=0.05, cost=10)) for one in jobs for _ in range(20)]
        while gauge.done < 4:
            await asyncio.sleep(0.005)
        await asyncio.to_thread(kill_limiter, path)
        found = await asyncio.gather(*asks, return_exceptions=True)
        await closed(jobs)
        return gauge, found

    gauge, found = asyncio.run(body())
    assert gauge.most == 4
    assert {type(error) for error in found if error} == {OutOfMoney}
    assert 12 <= gauge.done <= 20, "what is in flight while a limiter dies may count twice, but nothing less than once"


def test_without_any_nobody_waits_for_ever_and_what_it_said_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = socket_of(tmp_path)
    broken = tmp_path / "limiter.py"
    broken.write_text("raise SystemExit('no room on the device')")

    async def body() -> list[Any]:
        job = Permits(path, terms("none", tmp_path, concurrency=1))
        held = await job.take(10, 0)
        asks = [asyncio.ensure_future(job.take(10, 0)) for _ in range(3)]
        await asyncio.sleep(0.1)
        monkeypatch.setattr(permits, "LIMITER", broken)
        monkeypatch.setattr(permits, "START_SECONDS", 1.0)
        await asyncio.to_thread(kill_limiter, path)
        found = await asyncio.wait_for(asyncio.gather(*asks, return_exceptions=True), 30)
        job.settle(held, 10, 0)
        await job.close()
        return found

    found = asyncio.run(body())
    assert {type(error) for error in found} == {UserError}
    assert "no room on the device" in str(found[0])


def test_what_ends_while_there_is_none_costs_what_it_has_cost(path: Path, tmp_path: Path) -> None:
    async def body() -> int:
        job = Permits(path, terms("between", tmp_path, concurrency=8, max_cost=1000))
        held = [await job.take(10, 100) for _ in range(8)]
        await asyncio.to_thread(kill_limiter, path)
        await asyncio.sleep(0.05)
        for number in held:
            job.settle(number, 10, 1)
        left = 0
        with suppress(OutOfMoney):
            while True:
                job.settle(await job.take(10, 100), 10, 100)
                left += 1
        await job.close()
        return left

    assert asyncio.run(body()) == 9  # 8 + 9 x 100


@pytest.mark.slow
def test_another_grants_nothing_before_all_have_told_it_what_they_hold(path: Path, tmp_path: Path) -> None:
    async def body() -> Gauge:
        quick, slow = (Permits(path, terms("late", tmp_path, run=n, concurrency=4)) for n in range(2))
        gauge = Gauge()
        asks = [asyncio.ensure_future(gauge.request(slow, seconds=2.5)) for _ in range(4)]
        while gauge.now < 4:
            await asyncio.sleep(0.005)
        connected = slow._connected

        async def late() -> Any:
            await asyncio.sleep(1.0)  # as a job that just reads a long answer
            return await connected()

        slow._connected = late  # type: ignore[method-assign]
        asks += [asyncio.ensure_future(gauge.request(quick)) for _ in range(4)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(kill_limiter, path)
        await asyncio.gather(*asks)
        await closed([quick, slow])
        return gauge

    gauge = asyncio.run(body())
    assert (gauge.most, gauge.done) == (4, 8)


def test_runs_with_other_folders_for_temporary_files_have_the_same_limiter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for name in ("TMPDIR", "XDG_RUNTIME_DIR"):
        monkeypatch.setattr(tempfile, "tempdir", None)
        with monkeypatch.context() as one:
            one.setenv(name, tempfile.mkdtemp(dir="/tmp"))
            found.add(socket_of(tmp_path))
    assert len(found) == 1


def test_what_a_run_has_spent_is_never_forgotten_not_even_while_it_is_written(tmp_path: Path) -> None:
    ledger = tmp_path / "money"
    for spent in (10**20, 5, 10**13):
        _write_ledger(ledger, Purse(limit=0, spent=spent, reserved=3))
        assert _ledger_total(ledger) == spent + 3
        assert ledger.stat().st_size == LEDGER_DIGITS + 1, "written over what was there, without a moment of emptiness"


class Told:
    """A client's end of a connection, with all that it is told."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def write(self, line: bytes) -> None:
        self.messages.append(json.loads(line))


def test_a_clock_that_is_put_back_stops_no_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, told = Limiter(tmp_path / "kept"), Told()
    hello = terms("e", tmp_path, requests_per_minute=60_000, tokens_per_minute=1)._asdict() | {"held": []}
    guest = limiter._welcome(hello, told)  # type: ignore[arg-type]
    limiter._hear(guest, {"take": [[0, 0, 0]]})
    limiter.keep()
    earlier = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: earlier)
    limiter._hear(guest, {"take": [[1, 0, 0]]})
    assert told.messages == [{"grant": [0]}, {"grant": [1]}]
    monkeypatch.setattr(limiters_module, "BOOT", limiters_module.BOOT - 3600)
    [pace] = Limiter(tmp_path / "kept")._paces.values()
    assert 0 < pace.wait(1, limiters_module._now()) <= MINUTE


@pytest.mark.slow
def test_it_leaves_when_nobody_is_there_and_another_knows_what_it_knew(tmp_path: Path) -> None:
    path = socket_of(tmp_path)

    async def once(outcome: str) -> Gauge:
        permits = Permits(path, terms("again", tmp_path))
        gauge = Gauge()
        await asked([permits], gauge, each=1 if outcome == LIMITED else 30, outcome=outcome)
        await permits.close()
        return gauge

    asyncio.run(once(LIMITED))
    deadline = time.monotonic() + 30
    while limiters(path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not limiters(path)
    assert asyncio.run(once(OK)).most == 16
