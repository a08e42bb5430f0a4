"""The progress of a run, seen from outside: results of each model on each data set, and failures with their causes.

Only files are checked, so it works the same whether jobs run here or on a cluster.
"""

import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from shardmark import layout
from shardmark.plan.pairs import Pair, score_files
from shardmark.plan.plan import Plan
from shardmark.plan.summary import duration
from shardmark.store.partials import PARTIAL

Say = Callable[[str], None]
LINES = 10
"The most data sets or failures that are named at once; the others are counted."
BAR_SECONDS = 2.0
"Seconds between two updates of the bar on a terminal."
LAST_LINES, MOST_LINES = 3, 12
"The most lines shown of the log of a failed job, and of an error's message."
LOOK_SHARE = 0.02
"The largest share of the time for checking files, which may be many on a slow file system."
STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ ")
STAMPED_ERROR = re.compile(STAMP.pattern + "ERROR ")


class Done(NamedTuple):
    """Finished work on the shards that were missing when the run began."""

    shards: int
    requests: int
    seconds: float
    "Expected seconds of this work."


class Course:
    """The course of a run. `tell` and `complain` are called with lines for the user."""

    def __init__(self, plan: Plan | None, tell: Say, complain: Say) -> None:
        """`plan` is None for a command such as `relock`, which has no progress."""
        self._plan, self._tell, self._complain = plan, tell, complain
        self._over = threading.Event()
        self.begun = 0.0
        "The start of the run, by the clock of the results folder."

    def begin(self) -> None:
        """Report every `progress_seconds`, from now on, the work done since the last report."""
        if self._plan is None:
            return
        self.begun = file_time(self._plan.results)
        if self._plan.benchmark.run.progress_seconds:
            console = Console(stderr=True)
            follow = partial(self._show, console=console) if console.is_terminal else self._follow
            threading.Thread(target=follow, args=(self._plan,), daemon=True).start()

    def end(self) -> None:
        """Stop reporting."""
        self._over.set()

    def fail(self) -> None:
        """Stop reporting, except for the failures."""
        self.end()
        if self._plan:
            for line in failures(self._plan, self.begun):
                self._complain(line)

    def _show(self, plan: Plan, console: Console) -> None:
        """Show the progress as a bar on a terminal."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        total = sum(pair.requests for pair in plan.pairs)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("requests"))
        now = dict.fromkeys(range(len(plan.pairs)), Done(0, 0, 0.0))
        pause = BAR_SECONDS
        with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
            task = bar.add_task("", total=total)
            while not self._over.wait(pause):
                looked = time.monotonic()
                now = self._look(plan, now)
                scored = [pair for pair in plan.pairs if not pair.scored]
                there = sum(Path(score_files(plan.results, p.model, p.dataset)[0]).is_file() for p in scored)
                requests = sum(here.requests for here in now.values())
                bar.update(task, completed=requests, description=f"{there} of {len(scored)} scores")
                pause = max(BAR_SECONDS, (time.monotonic() - looked) / LOOK_SHARE)

    @staticmethod
    def _look(plan: Plan, before: dict[int, Done]) -> dict[int, Done]:
        return {
            number: done(plan.results, pair) if before[number].shards < len(pair.missing) else before[number]
            for number, pair in enumerate(plan.pairs)
        }

    def _follow(self, plan: Plan) -> None:
        begin, pause = time.monotonic(), plan.benchmark.run.progress_seconds
        before = dict.fromkeys(range(len(plan.pairs)), Done(0, 0, 0.0))
        while not self._over.wait(pause):
            looked = time.monotonic()
            now = self._look(plan, before)
            took = time.monotonic() - looked
            pause = max(plan.benchmark.run.progress_seconds, took / LOOK_SHARE)
            if now != before and not self._over.is_set():
                self._tell("\n".join(progress_lines(plan.pairs, before, now, time.monotonic() - begin)))
            before = now


def file_time(folder: Path) -> float:
    """The time by the clock of a file system, which may be another machine's."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        return os.stat(file.name).st_mtime


def done(results: Path, pair: Pair) -> Done:
    """The finished work on the missing shards of a pair."""
    folder = layout.PREDICTIONS.folder(results, model=pair.model.full_name, dataset=pair.dataset.name)
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    partial = [name for name in names if name.endswith(PARTIAL)]
    shards, requests, seconds = 0, 0, 0.0
    for shard, cost in zip(pair.missing, pair.costs, strict=True):
        if f"{shard.name}.jsonl" in names:
            shards, requests, seconds = shards + 1, requests + shard.left, seconds + cost.inference
        elif files := [folder / name for name in partial if name.startswith(f"{shard.name}.")]:
            known = sum(map(_lines, files)) - (shard.requests - shard.left)
            known = min(max(known, 0), shard.left)
            requests, seconds = requests + known, seconds + cost.inference * known / max(1, shard.left)
    return Done(shards, requests, seconds)


def _lines(path: Path) -> int:
    try:
        with open(path, "rb") as file:
            return sum(line.startswith(b'{"id"') for line in file)  # other lines are blank, or parts of answers
    except FileNotFoundError:  # its job has just finished
        return 0


def progress_lines(pairs: list[Pair], before: dict[int, Done], now: dict[int, Done], elapsed: float) -> Iterator[str]:
    """Lines on the work done, in total and for pairs with progress; `elapsed` seconds after the start."""
    shards, requests, seconds = (sum(values) for values in zip(*now.values(), strict=True))
    left = sum(pair.seconds.inference for pair in pairs) - seconds
    total = _share(shards, requests, sum(len(pair.missing) for pair in pairs), sum(pair.requests for pair in pairs))
    yield f"progress: {total}" + (f", about {duration(elapsed * left / seconds)} left" if seconds and left > 0 else "")
    moved = [number for number in now if now[number] != before[number]]
    for number in moved[:LINES]:
        pair, here = pairs[number], now[number]
        yield f"    {_name(pair)}: {_share(here.shards, here.requests, len(pair.missing), pair.requests)}"
    if len(moved) > LINES:
        yield f"    and {len(moved) - LINES} more"


def _share(shards: int, requests: int, all_shards: int, all_requests: int) -> str:
    return f"{shards:,} of {all_shards:,} shards, {requests:,} of {all_requests:,} requests"


def _name(pair: Pair) -> str:
    return f"{pair.model.name} on {pair.dataset.name}"


class Failure(NamedTuple):
    """A job without a result."""

    what: str
    "A description of its result, without the shard."
    shard: str
    log: Path
    words: str
    "The end of its log, without time stamps."


def failures(plan: Plan, since: float) -> Iterator[str]:
    """Lines on all failures since a time: for each reason, the shards and other jobs, and the last lines of a log."""
    failed = [
        Failure(what, shard, log, last_words(log))
        for what, shard, made, log in _jobs(plan)
        if not made.exists() and written_since(log, since)
    ]
    groups = [list(same) for _, same in groupby(failed, key=lambda one: one.words)]
    for same in groups[:LINES]:
        jobs = [_jobs_named(list(alike)) for _, alike in groupby(same, key=lambda one: one.what)]
        more = f"; and {len(jobs) - LINES} more" if len(jobs) > LINES else ""
        yield f"failed: {'; '.join(jobs[:LINES])}{more}; the end of {same[0].log}:"
        yield from (f"    {line}" for line in same[0].words.splitlines())
    if len(groups) > LINES:
        yield f"and {sum(map(len, groups[LINES:]))} more have failed; see the logs"
    missing = sum(1 for _, shard, made, _ in _jobs(plan) if shard and not made.exists())
    if missing:
        planned = sum(len(pair.missing) for pair in plan.pairs)
        yield f"{missing:,} of {planned:,} shards are missing; run the same command again: finished work is kept"


def _jobs_named(alike: list[Failure]) -> str:
    shards = [one.shard for one in alike if one.shard]
    more = f" and {len(shards) - LINES} more" if len(shards) > LINES else ""
    return alike[0].what + (f", shard{'s' * (len(shards) > 1)} {', '.join(shards[:LINES])}{more}" if shards else "")


def _jobs(plan: Plan) -> Iterator[tuple[str, str, Path, Path]]:
    """The jobs of a run: a description, the shard, the output and the log of each."""

    def files(made: layout.Kind, log: layout.Kind, **fields: str) -> tuple[Path, Path]:
        return made.file(plan.results, **fields), log.file(plan.results, **fields)

    for name in plan.model_names():
        yield f"staging {name}", "", *files(layout.STAGED, layout.STAGE_LOGS, model=name)
    for pair in plan.pairs:
        place = {"model": pair.model.full_name, "dataset": pair.dataset.name}
        for shard in pair.missing:
            made = files(layout.PREDICTIONS, layout.INFER_LOGS, **place, shard=shard.name)
            yield _name(pair), shard.name, *made
        if not pair.scored:
            scored = files(layout.SCORES, layout.SCORE_LOGS, **place, task=pair.dataset.digest)
            yield f"scoring {_name(pair)}", "", *scored
    report = files(layout.REPORTS, layout.REPORT_LOGS, report=plan.report.name, file="index.html")
    yield "the report", "", *report


def written_since(log: Path, since: float) -> bool:
    try:
        return log.stat().st_mtime >= since
    except FileNotFoundError:
        return False


def last_words(log: Path) -> str:
    """The last error in a log and the lines after it; without an error, the last lines."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if STAMPED_ERROR.match(line)]
    start = max(errors[-1], len(lines) - MOST_LINES) if errors else len(lines) - LAST_LINES
    return "\n".join(STAMP.sub("", line) for line in lines[max(0, start) :])
