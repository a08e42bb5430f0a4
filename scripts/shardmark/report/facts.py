"""Facts about how a run was made, gathered from the provenance of its pairs."""

import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from shardmark import layout
from shardmark.records.base import read_sealed_record
from shardmark.records.slurm_jobs import SlurmJob, SlurmJobs
from shardmark.records.timings import Timings

from .formats import DASH, count, duration, moment, plural
from .results import Results
from .text import pretty_json

SHORT_SECONDS = 5.0
"For shorter times, errors are given in seconds: a percentage of tenths of a second says nothing."
KNOWN_FACTS = ("generated", "command", "config", "host", "slurm")


class Fact(NamedTuple):
    """A label and its values in the pairs, each distinct value once."""

    label: str
    values: list[str]


def run_facts(results: Results, facts: dict[str, Any]) -> list[Fact]:
    """The page's facts about the run as a whole; several values show that its pairs differ."""
    sources = [pair.scores.provenance for pair in results]
    timings = [pair.timings for pair in results if pair.timings]
    seconds = [each.seconds for each in timings]
    found = [
        Fact("Report made", [moment(facts.get("generated"))]),
        Fact("Inference ran", [_period(results)]),
        Fact("Inference took", [f"{duration(sum(seconds))} for {plural(len(seconds), 'pair')}"]),
        Fact("Predicted", [_foresight(timings)]),
        Fact("Jobs on Slurm", facts.get("slurm") or []),
        Fact("Requests", [count(sum(pair.scores.counts.requests for pair in results))]),
        Fact("Engines", _distinct(use.text for source in sources for use in source.engines)),
        Fact("Reused answers", _distinct(taken.text for source in sources for taken in source.taken)),
        Fact("Host", _distinct([facts.get("host")])),
        Fact("Hardware", _distinct(hardware_text(source.hardware) for source in sources)),
        Fact("Shardmark", _distinct(source.shardmark for source in sources)),
        Fact("Git commit", _distinct(source.git_commit for source in sources)),
        Fact("Python", _distinct(source.python for source in sources)),
    ]
    others = [
        Fact(key, [value if isinstance(value, str) else pretty_json(value)])
        for key, value in facts.items()
        if key not in KNOWN_FACTS
    ]
    return [fact for fact in [*found, *others] if fact.values and fact.values != [DASH]]


def _foresight(timings: list[Timings]) -> str:
    """How well the time of inference was predicted; a dash if nothing was."""
    known = [(each.predicted_seconds, each.seconds) for each in timings if each.predicted_seconds and each.seconds]
    if not known:
        return DASH
    errors = [abs(predicted - actual) for predicted, actual in known]
    if statistics.median(actual for _, actual in known) < SHORT_SECONDS:
        error = duration(statistics.median(errors))
    else:
        shares = [error / actual for error, (_, actual) in zip(errors, known, strict=True)]
        error = f"{statistics.median(shares):.0%}"
    predicted, actual = (duration(sum(column)) for column in zip(*known, strict=True))
    return f"{predicted}, actually {actual}; median error of pairs: {error}"


def jobs_used(files: Iterable[Path]) -> list[str]:
    """For each model, what its jobs on Slurm used of what they asked for: a line on those that infer, and the others.

    Raises UserError for a damaged file.
    """
    found = []
    for file in files:
        jobs = [*read_sealed_record(file, SlurmJobs).jobs.values()]
        name = layout.split_name(layout.SLURM_JOBS.fields(file)["model"])[0]
        for infers, what in ((True, "inference"), (False, "scoring only")):
            if some := [job for job in jobs if job.infers is infers]:
                found.append(f"{name}, {what}: {_used(some)}")
    return found


def _used(jobs: list[SlurmJob]) -> str:
    """Time, the share of CPU time used, and the memory of the job that came closest to what it asked for."""
    had = sum(job.seconds * job.cpus for job in jobs)
    parts = [f"{plural(len(jobs), 'job')}, {duration(sum(job.seconds for job in jobs))} in all"]
    if had:
        parts.append(f"{sum(job.cpu_seconds for job in jobs) / had:.0%} of the time of {_cpus(jobs)}")
    measured = [(job.memory / job.memory_asked, job) for job in jobs if job.memory and job.memory_asked]
    if measured:
        share, job = max(measured, key=lambda each: each[0])
        parts.append(f"at most {share:.0%} of the memory asked for ({job.memory:,.0f} of {job.memory_asked:,.0f} MB)")
    ends = Counter(job.state for job in jobs if job.state != "COMPLETED")
    return "; ".join([*parts, *(f"{number} x {state}" for state, number in sorted(ends.items()))])


def _cpus(jobs: list[SlurmJob]) -> str:
    fewest, most = min(job.cpus for job in jobs), max(job.cpus for job in jobs)
    return plural(most, "CPU") if fewest == most else f"{fewest} to {most} CPUs"


def packages(results: Results) -> list[Fact]:
    """The packages that inference used, by name, each with the versions found."""
    pins = [pair.scores.provenance.packages for pair in results]
    names = sorted({name for versions in pins for name in versions}, key=str.lower)
    return [Fact(name, _distinct(versions.get(name) for versions in pins)) for name in names]


def hardware_text(hardware: dict[str, Any]) -> str | None:
    """A machine in one line; memory is in GB. None if nothing is known of it."""
    if not hardware:
        return None
    gpus = [str(gpu.get("name", gpu) if isinstance(gpu, dict) else gpu) for gpu in hardware.get("gpus") or []]
    parts = [
        hardware.get("cpu"),
        plural(hardware["cores"], "core") if hardware.get("cores") else None,
        f"{hardware['memory_gb']} GB memory" if hardware.get("memory_gb") else None,
        " + ".join(gpus) if gpus else "no GPU",
        f"products by {hardware['products']}" if hardware.get("products") else None,
        f"decoding with {hardware['decoding']}" if hardware.get("decoding") else None,
    ]
    return ", ".join(str(part) for part in parts if part)


def finished(results: Results) -> str | None:
    """The time when the last inference ended (ISO 8601); None if unknown."""
    return max((pair.timings.finished for pair in results if pair.timings), default=None)


def started(results: Results) -> str | None:
    """The time when the first inference began (ISO 8601); None if unknown."""
    return min((pair.timings.started for pair in results if pair.timings), default=None)


def _period(results: Results) -> str:
    begin, end = started(results), finished(results)
    return f"{moment(begin)} to {moment(end)}" if begin and end else moment(begin or end)


def _distinct(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))
