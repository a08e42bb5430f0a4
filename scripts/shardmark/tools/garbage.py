"""Files in a results folder that no plan needs, found by their names and removed one by one.

Every path that Shardmark writes tells what it is of. What has another name is not Shardmark's and stays, as does
whatever lies behind a symlink.
"""

import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shardmark.errors import Problem, UserError
from shardmark.tools.needs import Needs

DIGEST = "[0-9a-f]{16}"
NAME = f"[^/@]+@{DIGEST}"
SHARD = rf"(?P<prediction>(?P<pair>{NAME}/[^/@]+)/{DIGEST})"
SCORE = rf"(?P<score>{NAME}/{NAME})"
PATHS = {
    r"damaged/.+": "damaged files",
    rf"tasks/(?P<task>{NAME})(\.jsonl|\.shards\.json)": "tasks",
    rf"requests/(?P<request>[^/@]+/{DIGEST})\.jsonl": "requests",
    rf"predictions/{SHARD}\.jsonl": "predictions",
    rf"predictions/{SHARD}\.(?P<host>[^/]+)-(?P<process>\d+)\.partial": "partial files",
    rf"(scores/{SCORE}\.json)": "scores",
    rf"(samples/{SCORE}\.jsonl)": "samples",
    rf"(timings/{SCORE}\.json)": "timings",
    rf"models/(?P<model>{NAME})\.json": "models",
    rf"staged/(?P<model>{NAME})\.json": "models",
    rf"staged/weights/(?P<weights>{DIGEST})/.+": "staged weights",
    rf"plans/divisions/(?P<model>{NAME})\.json": "plans",
    rf"plans/reports/(?P<report>{NAME})\.json": "plans",
    rf"plans/datasets/(?P<memo>{NAME})\.json": "plans",
    rf"plans/configs/{DIGEST}\.json": "plans",
    rf"reports/(?P<report>{NAME})/.+": "reports",
    rf"logs/infer/{SHARD}\.log": "logs",
    rf"logs/score/{SCORE}\.log": "logs",
    rf"logs/stage_model/(?P<model>{NAME})\.log": "logs",
    rf"logs/report/(?P<report>{NAME})\.log": "logs",
    r"logs/workers/[^/]+-[0-9a-f]{8}\.log": "logs",
    rf"benchmarks/infer/{SHARD}\.tsv": "benchmarks",
    rf"benchmarks/score/{SCORE}\.tsv": "benchmarks",
    rf"benchmarks/stage_model/(?P<model>{NAME})\.tsv": "benchmarks",
    rf"benchmarks/report/(?P<report>{NAME})\.tsv": "benchmarks",
    # What is written beside its place and renamed, and was left there by a process that was killed.
    r"(.+/)?\.[^/]+\.[a-z0-9_]{8}(/.+)?": "temporary files",
    rf"reports/{NAME}\.(tmp|old)-[^/]+/.+": "temporary files",
}
"Every path below a results folder, with the keys in it that plans may need, and what such files are called."
PATTERNS = [(re.compile(pattern), kind) for pattern, kind in PATHS.items()]
LINK = re.compile(r"reports/(?P<run>[A-Za-z0-9][A-Za-z0-9_.-]*)")
ALWAYS = re.compile(r"\.gitkeep|plans/[^/]+\.json|logs/[^/]+\.log")
"What belongs to all runs: what was measured, hashed and checked, and what commands logged."
FRESH = 3600.0
"Seconds in which a file that one process writes and soon removes may still be wanted."


@dataclass(frozen=True)
class File:
    """A file below a results folder, and what is to become of it."""

    path: Path
    kind: str
    "What such files are called; empty if it is not known."
    size: int
    "Bytes."
    fate: str
    "needed, unneeded, stale (predictions of other shards of a pair that is needed), fresh or unknown."


def survey(results: Path, needs: Needs) -> Iterator[File]:
    """Every file of a results folder, links included but not followed."""
    now = time.time()
    for folder, subfolders, names in os.walk(results):
        links = [name for name in subfolders if os.path.islink(os.path.join(folder, name))]
        for name in [*names, *links]:
            path = Path(folder, name)
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue  # renamed or finished meanwhile
            kind, fate = _judge(path.relative_to(results).as_posix(), path, needs, now - status.st_mtime)
            yield File(path, kind, status.st_size, fate)


def _judge(relative: str, path: Path, needs: Needs, age: float) -> tuple[str, str]:
    """What a file is, and its fate; `age` is the time since it was modified, in seconds."""
    if path.is_symlink():
        return _judge_link(relative, os.readlink(path), needs)
    if ALWAYS.fullmatch(relative):
        return "plans", "needed"
    for pattern, kind in PATTERNS:
        if match := pattern.fullmatch(relative):
            return kind, _fate(kind, match, path, needs, age)
    return "", "unknown"


def _judge_link(relative: str, target: str, needs: Needs) -> tuple[str, str]:
    """The same for a symlink: only that of a run's name to its newest report is Shardmark's."""
    link = LINK.fullmatch(relative)
    if not (link and re.fullmatch(NAME, target)):
        return "", "unknown"
    return "reports", "needed" if link["run"] in needs["run"] else "unneeded"


def _fate(kind: str, match: re.Match[str], path: Path, needs: Needs, age: float) -> str:
    keys = match.groupdict()
    finished = kind == "partial files" and (path.parent / f"{path.name.partition('.')[0]}.jsonl").exists()
    if not finished and any(value in needs[key] for key, value in keys.items() if key != "pair"):
        return "needed"
    if kind == "partial files" and _is_alive(keys["host"], int(keys["process"]), age):
        return "fresh"
    if (kind == "temporary files" or path.parent.name in ("configs", "workers")) and age < FRESH:
        return "fresh"
    return "stale" if not finished and keys.get("pair") in needs["pair"] else "unneeded"


def _is_alive(host: str, process: int, age: float) -> bool:
    """Whether the process that writes a partial file may still run; of another machine only the file's age tells."""
    if host != socket.gethostname():
        return age < FRESH
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def remove(results: Path, files: Iterable[File]) -> None:
    """Remove files of a results folder, and the folders that are empty then. Raises UserError at the first refusal."""
    folders = set()
    for file in files:
        try:
            file.path.unlink(missing_ok=True)
        except OSError as error:
            fix = "mend the rights of its folder; what was removed before is gone, the rest is untouched"
            raise UserError(Problem(str(file.path), "", f"cannot be removed: {error.strerror}", fix)) from error
        folders.add(file.path.parent)
    for folder in folders:
        _drop_empty(folder, results)


def _drop_empty(folder: Path, results: Path) -> None:
    while folder != results:
        try:
            folder.rmdir()
        except OSError:
            return  # not empty
        folder = folder.parent
