"""Rate limits of an endpoint and budgets of runs: plain state, with the time as an argument."""

import math
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction

START, MOST = 20, 320
"Requests in flight at first, and at most, if the configuration does not say."
BACK_OFF = 0.8
"Factor of the concurrency after a 429."
COOL_SECONDS = 15.0
"Seconds after a 429 in which further ones change nothing, and the limit does not grow."
MINUTE = 60.0 + 1.0
"Seconds counted as a minute: some requests reach the endpoint up to a second later than they were allowed."
GATHERING_SECONDS = 2.0
"Seconds after the death of a limiter until the next one grants anything: by then all jobs have told it their permits."
SLACK_SECONDS = 0.05
"Seconds that requests may be ahead of an even pace, so that a fast one needs no timer for each."
OK, LIMITED, TROUBLE = "ok", "limited", "trouble"
"Outcomes of a request: answered, too many at once, or another failure."


@dataclass
class Entry:
    """A permit's share of the tokens of a minute."""

    time: float
    tokens: int
    counted: bool = True
    "Whether it is still within the last minute."


@dataclass
class Pace:
    """The pace of one model of an endpoint, shared by all clients."""

    concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: int | None = None
    limit: int = START
    "The most requests in flight at once."
    limited: bool = False
    "Whether there were ever too many: from then on the limit grows by a twentieth instead of doubling."
    in_flight: int = 0
    next_request: float = 0.0
    "The time at which an even pace has room for the next request."
    paused_until: float = 0.0
    cooling_until: float = 0.0
    entries: deque[Entry] = field(default_factory=deque)
    used: int = 0
    "Tokens of all entries, which are those of the last minute."
    streak: int = 0
    "Answers in a row since the limit was last changed."
    blind_until: float = -math.inf
    "The time at which a limiter died without telling what it had granted until then."

    def settings(self, concurrency: int | None, requests: float | None, tokens: int | None) -> None:
        """Observe these limits from now on; None means no limit."""
        self.concurrency, self.requests_per_minute, self.tokens_per_minute = concurrency, requests, tokens

    @property
    def most(self) -> int:
        """The most requests that may be in flight now."""
        return self.concurrency or self.limit

    def wait(self, tokens: int, now: float) -> float:
        """Seconds until a request of `tokens` tokens may be sent; infinite if another one must finish first."""
        if self.in_flight >= self.most:
            return math.inf
        until = max(self.paused_until, self.blind_until + GATHERING_SECONDS)
        if self.requests_per_minute:
            unknown = self.blind_until + MINUTE / self.requests_per_minute
            until = max(until, self.next_request - SLACK_SECONDS, unknown)
        return max(until - now, self._wait_for_tokens(tokens, now), 0.0)

    def _wait_for_tokens(self, tokens: int, now: float) -> float:
        while self.entries and self.entries[0].time <= now - MINUTE:
            entry = self.entries.popleft()
            entry.counted = False
            self.used -= entry.tokens
        if self.tokens_per_minute is None:
            return 0.0
        used, until = self.used, self.blind_until + MINUTE - now
        for entry in self.entries:  # a request larger than the limit gets a whole minute
            if used + tokens <= self.tokens_per_minute:
                break
            used -= entry.tokens
            until = max(until, entry.time + MINUTE - now)
        return until

    def grant(self, tokens: int, now: float) -> Entry:
        """Note that a request is sent."""
        self.in_flight += 1
        if self.requests_per_minute:
            even = MINUTE / self.requests_per_minute
            self.next_request = max(self.next_request, now) + even
        entry = Entry(now, tokens)
        self.entries.append(entry)
        self.used += tokens
        return entry

    def settle(self, entry: Entry, tokens: int) -> None:
        """Note that a request has finished, and how many tokens it took."""
        self.in_flight -= 1
        self.used += (tokens - entry.tokens) * entry.counted
        entry.tokens = tokens

    def learn(self, outcome: str, after: float, wanted: bool, now: float) -> str:
        """Take account of a request's outcome and of the wait that the endpoint asks for; the message for the log.

        `wanted` says whether more requests would be sent if the limit were higher.
        """
        said = ""
        if after > 0 and now + after > self.paused_until:
            self.paused_until = now + after
            said = f"the endpoint asks to wait for {after:.0f} s" if after >= 1 else ""
        if self.concurrency:
            return said
        before = self.limit
        if outcome == LIMITED:
            self.streak, self.limited = 0, True
            if now >= self.cooling_until:
                self.limit = max(1, int(self.limit * BACK_OFF))
                self.cooling_until = now + COOL_SECONDS
        elif outcome == TROUBLE:
            self.streak = 0
        else:
            self.streak += 1
            if self.streak >= self.limit and wanted and now >= self.cooling_until:
                grown = self.limit + max(1, self.limit // 20) if self.limited else 2 * self.limit
                self.limit, self.streak = min(grown, max(MOST, self.limit)), 0
        if self.limit == before:
            return said
        why = "too many requests (429)" if self.limit < before else f"{before} answers without a 429"
        return "; ".join(filter(None, [said, f"{self.limit} requests at once instead of {before}: {why}"]))


@dataclass
class Purse:
    """The budget of a run, in millionths of a millionth of the currency unit of the prices."""

    limit: int
    spent: int = 0
    reserved: int = 0
    "The worst case of the requests in flight."
    closed: bool = False
    in_flight: int = 0
    factor: Fraction = Fraction(1)
    excess: int = 0
    """The most by which a request has cost more than its worst case: as a factor, and as a difference. An endpoint may
    ignore the limit of an answer, or put a long prompt before ours, so the others may cost as much more."""

    def most(self, cost: int, requests: int = 1) -> int:
        """The most that some requests may cost, as far as is known by now, if their worst cases amount to `cost`."""
        return max(math.ceil(cost * self.factor), cost + requests * self.excess)

    def take(self, cost: int) -> bool | None:
        """Reserve the worst case of a request; None if it may fit when another one ends, False if it cannot."""
        if not self.closed and self.spent + self.most(self.reserved + cost, self.in_flight + 1) <= self.limit:
            self.hold(cost)
            return True
        if self.reserved and not self.closed:
            return None
        self.closed = True
        return False

    def hold(self, cost: int) -> None:
        """Note that a request is in flight."""
        self.reserved += cost
        self.in_flight += 1

    def settle(self, reserved: int, spent: int) -> None:
        """Note the cost of a finished request."""
        self.reserved -= reserved
        self.in_flight -= 1
        self.spent += spent
        self.excess = max(self.excess, spent - reserved)
        if reserved:
            self.factor = max(self.factor, Fraction(spent, reserved))
